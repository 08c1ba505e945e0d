package mutation

// Every key of the format, and what people write instead.
var keys = []string{
	"apiVersion", "kind", "resources", "providers", "provider", "resource", "kms", "kmsv2", "identity", "aescbc",
	"aesgcm", "secretbox", "keys", "key", "name", "secret", "endpoint", "timeout", "cachesize", "cacheSize",
	"metadata", "spec", "algorithm", "1", "true", "~", "", "<<", "unknown",
}

// Of all types that YAML has; not all are JSON. Left out is a bare - or ? in brackets, which only
// kube-apiserver's reader of YAML takes for a text.
var scalars = []string{
	"null", "~", "", "true", "yes", "on", "y", "off", "Null", "YES", "yEs", "0", "1", "-1", "3", "3000", "0x10",
	"010", "08", "1_000", "0b1", "0o7", "1e3", "1.0", ".5", ".inf", "-.INF", ".nan", "1e999", "2001-01-01", "1:30",
	"<<", "=", `""`, `"text"`, "text", "'single'", `"null"`, "'~'", "\"a\\tb\"", `"\u00e9"`, "two words", "a: b",
	"- a", "[]", "{}", "[a]", "{a: b}", "!!str 3", "!!int '3'", "!!float 3", "!!bool 'true'", "!!str null",
	"! 3", "|\n        block", ">-\n        folded", "@at", "`tick`", "%percent", "*alias", "&anchor x", "#comment",
	"x #comment", "x#y", ":", "é", "\u00a0", "9223372036854775808", "99999999999999999999", "0.0",
}

var durations = []string{
	"3s", "1m", "500ms", ".5s", "3.s", "1h30m", "+3s", "1.5h", "1ns", "1us", "1µs", "1μs", "100000h", `"3s"`, "3000000h",
	"0", "0s", "-3s", "-0s", `"0"`, `"+0"`, `"3"`, "3", "3000", "3 s", `" 3s"`, `"3s "`, "PT3S", "3S", "3sec", "3d", "s",
	".s", "+", `""`, "null", "~", "1e3s", "1_0s", "0.0000000001s", "0.0000000009999999999999999999s",
	"9223372036854775807ns", "9223372036854775808ns", "9223372036854775808ns9223372036854775808ns1ns",
	"2562047h47m16.854775807s", "2562047h47m16.854775808s", "99999999999999999999s", "0x3s", "3s3s", "1m30", "true",
	"[3s]", "{}", "1.2.3s", "1..2s", "0.000000000000000000000000000000000000000000000000001h",
}

var names = []string{
	"barbican", "second", "third", "a-b", "a.b", `"a b"`, "a:b", `"a:"`, `":"`, `""`, "null", "1", "true", "on", "é",
	`"null"`, "BARBICAN", `"barbican "`, `"a/b"`, `"a\nb"`, "[]", `"1"`,
}

var endpoints = []string{
	"unix:///run/barbican-kms/kms.sock", "unix:///var/lib/kms/kms.sock", "unix:/run/kms.sock", "UNIX:///run/kms.sock",
	"unix:////run/kms.sock", "unix://run/kms.sock", "unix://rel", "unix:rel", "unix:rel/kms.sock", "unix://", "\"unix:\"",
	"unix:///", "unix:/", "unix:///run/", "unix:///run/.", "unix:///run/..", "unix:///run/../kms.sock",
	"unix://localhost/run/kms.sock", "unix://localhost:80/run/kms.sock", "unix://user@/run/kms.sock",
	"unix://@/run/kms.sock", "unix://[::1]/run/kms.sock", "unix://[::1/run/kms.sock", "unix://%zz/run/kms.sock",
	"unix://a b/run/kms.sock", "unix:///@kms", "unix://@kms", "unix:@kms", "unix:///@", "unix:///run/@kms",
	"/run/kms.sock", "run/kms.sock", "tcp://127.0.0.1:80", "http://localhost/run/kms.sock", "unixs:///run/kms.sock",
	"\"unix-abstract:kms\"", "unix", "\":\"", "\"://run\"", "\"*\"", "\"1unix:///run/kms.sock\"", "\"unix :///run/kms.sock\"",
	"unix:///run/k%2Dms.sock", "unix:///run/%zz", "unix:///run/%2", "unix:///run/%", "unix:///run/%25zz",
	"unix:///run/%2525", "unix:///run/%00", "unix:///run/%0a", "unix:///run/%7f", "unix:///run/%3F%25zz",
	"unix:///run/%23%25zz", "unix:///run/%ff", "unix:///run/kms.sock?a=b", "unix:///run/kms.sock?", "unix:///run/kms.sock?%zz",
	"\"unix:///run/kms.sock#a\"", "\"unix:///run/kms.sock#%zz\"", "\"unix:///run/kms.sock \"", "\" unix:///run/kms.sock\"",
	"\"unix:///run/a b.sock\"", `"unix:///run/kms.sock\n"`, `"unix:///run/\u007f"`, "unix:///run/é.sock", `"unix:///run/\\k"`,
	"unix:///run/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	"unix:///run/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	`""`, "null", "1", "[]", "true",
}

var resources = []string{
	`"secrets"`, `"configmaps"`, `"events"`, `"pods"`, `"deployments.apps"`, `"*.apps"`, `"*."`, `"*.*"`, `"*"`,
	`"secrets."`, `"secrets.v1"`, `"Secrets"`, `"secretS"`, `"secrets.*"`, `"*.batch"`, `"jobs.batch"`, `"É"`, `"é"`,
	`"events.events.k8s.io"`, `"*.events.k8s.io"`, `"ingresses.extensions"`, `"*.extensions"`, `"extensions"`,
	`"apiserveripinfo"`, `"serviceipallocations"`, `"servicenodeportallocations"`, `"serviceipallocations."`,
	`"pandas.awesome.bears.example"`, `"*.awesome.bears.example"`, `""`, `"."`, `".."`, `"*.*."`, `"*.*.*"`, `".*"`, `"* "`,
	"null", "1", "true", "[]", "{}", "secrets/status", `"*.EXAMPLE"`, `"ǅ"`, `"ß"`, `"İ"`, `"Σ"`,
}

var secrets = []string{
	`"AAAAAAAAAAAAAAAAAAAAAA=="`, `"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`, `"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`,
	`"AAAAAAAAAAAAAAAAAAAAAA"`, `"AAAAAAAAAAAAAAAAAAAAAB=="`, `"AAAA"`, `"AAAAAAAAAAAAAAAAAAAAA==="`, `"not base64"`,
	`"AAAAAAAAAAA\nAAAAAAAAAAA=="`, `"AAAAAAAAAAAAAAAAAAAAAA==\n"`, `"AAAAAAAAAAAAAAAAAAAAAA=\n="`, `"AAAAAAAAAAA AAAAAAAAAAA=="`,
	`"-_AAAAAAAAAAAAAAAAAAAA=="`, `"AAAAAAAAAAAAAAAAAAAAAA==AA"`, `"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`,
	`""`, "null", "1", "true", "1234567890123456789012", `"c2VjcmV0IGlzIHNlY3VyZQ=="`, `"===="`, `"\n"`, `"A==="`,
}

var valuesOf = map[string][]string{
	"timeout":  durations,
	"name":     names,
	"endpoint": endpoints,
	"secret":   secrets,
	"apiVersion": {
		"v2", "v1", "v2", "v3", "V2", `""`, "null", "2", `"v2 "`, "v2beta1", "apiserver.config.k8s.io/v1", "/v1", `"/"`,
		"apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1/", "apiserver.config.k8s.io/", "apiserver.k8s.io/v1",
		"apiserver.config.k8s.io/__internal", "a/b/c", "kubeadm.k8s.io/v1beta4",
	},
	"kind": {
		"EncryptionConfiguration", "EncryptionConfig", "encryptionconfiguration", "AdmissionConfiguration", "Pod", "List",
		"AuthenticationConfiguration", "TracingConfiguration", "WatchEvent", `""`, "null", "1", `"EncryptionConfiguration "`,
	},
	"cachesize": {"1000", "0", "-1", "null", "~", "\"5\"", "1.5", "1e3", "99999999999", "true", "[]", "0x10", "010"},
}

const (
	kms       = `{"kms": {"apiVersion": "v2", "name": "added", "endpoint": "unix:///run/barbican-kms/kms.sock"}}`
	goodKey   = `{"name": "key1", "secret": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`
	shortKey  = `{"name": "key2", "secret": "AAAAAAAAAAAAAAAAAAAAAA=="}`
	aescbc    = `{"aescbc": {"keys": [` + goodKey + `]}}`
	aesgcm    = `{"aesgcm": {"keys": [` + goodKey + `, ` + shortKey + `]}}`
	secretbox = `{"secretbox": {"keys": [` + goodKey + `]}}`
)

var providers = []string{
	kms, kms, aescbc, aesgcm, secretbox, `{"secretbox": {"keys": [` + shortKey + `]}}`, `{"identity": {}}`, `{"identity": null}`,
	`{"identity": {"a": 1}}`, `{"identity": ""}`, `{"identity": []}`, `{}`, `null`, `"identity"`, `{"aescbc": null}`, `{"aescbc": {}}`,
	`{"aescbc": {"keys": null}}`, `{"aescbc": {"keys": []}}`, `{"aescbc": {"keys": {}}}`, `{"kms": {}}`, `{"kms": null}`, `{"kms": []}`,
	`{"identity": {}, "kms": null}`, `{"identity": {}, "aescbc": {"keys": [` + goodKey + `]}}`, `{"unknown": {}}`, `{"identity": {}, "unknown": {}}`,
	`{"kms": {"apiVersion": "v1", "name": "old", "endpoint": "unix:///run/kms.sock", "cachesize": 1000}}`,
	`{"kms": {"name": "old", "endpoint": "unix:///run/kms.sock"}}`,
}

var someKeys = []string{goodKey, shortKey, `{"name": "key3"}`, `{"secret": "AAAA"}`, `{}`, `null`, `"text"`, `[]`, `{"name": "a", "secret": "AAAAAAAAAAAAAAAAAAAAAA==", "x": 1}`}

var entries = []string{
	`{"resources": ["configmaps"], "providers": [` + kms + `, {"identity": {}}]}`,
	`{"resources": ["secrets"], "providers": [{"identity": {}}]}`,
	`{"resources": ["*."], "providers": [` + aescbc + `]}`, `{"resources": ["*.*"], "providers": [` + secretbox + `]}`,
	`{"resources": ["*.apps"], "providers": [{"identity": {}}]}`, `{"resources": ["deployments.apps"], "providers": [{"identity": {}}]}`,
	`{"resources": [], "providers": []}`, `{}`, `null`, `"text"`, `[]`, `{"resources": "secrets", "providers": [{"identity": {}}]}`,
}

var templates = append(append(append([]string{`"text"`, `1`, `null`, `{}`, `[]`, `["secrets"]`}, providers...), someKeys...), entries...)
