// Package client holds kube-apiserver's own client code against the sidecar: the loader of
// EncryptionConfiguration, the transformers, the health checks and the metrics of k8s.io/apiserver.
//
// One source for every supported release: go.mod has the newest, go.132.mod the oldest.
package client

import (
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/component-base/metrics/legacyregistry"

	"barbican-kms/tests/kubernetes/plugin"
	"barbican-kms/tests/kubernetes/sidecar"
	"barbican-kms/tests/kubernetes/stored"
)

var bench *sidecar.Bench

func TestMain(m *testing.M) {
	sidecar.ServeIfAsked()
	flag.Parse()
	// The tests wait for the API server's timers far more than they compute.
	if err := flag.Set("test.parallel", "20"); err != nil {
		panic(err)
	}
	var err error
	if bench, err = sidecar.Open(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// apiServer is what an API server makes of one encryption config.
type apiServer struct {
	*encryptionconfig.EncryptionConfiguration
}

// provider is one kms entry of the config.
type provider struct {
	name, endpoint string
	resources      []string // none: secrets
	timeout        time.Duration
}

// load does what kube-apiserver does with --encryption-provider-config at its start.
func load(t *testing.T, providers ...provider) *apiServer {
	t.Helper()
	var yaml strings.Builder
	yaml.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n")
	for _, p := range providers {
		resources := p.resources
		if resources == nil {
			resources = []string{"secrets"}
		}
		if p.timeout == 0 {
			p.timeout = 3 * time.Second
		}
		fmt.Fprintf(&yaml, "- resources: [%s]\n  providers:\n  - kms: {apiVersion: v2, name: %s, endpoint: %q, timeout: %s}\n",
			quoted(resources), p.name, p.endpoint, p.timeout)
	}
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte(yaml.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, file, false, "test")
	if err != nil {
		t.Fatal(err)
	}
	return &apiServer{config}
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(out, ", ")
}

func (a *apiServer) transformer(t *testing.T, resource string) value.Transformer {
	t.Helper()
	found, ok := a.Transformers[schema.ParseGroupResource(resource)]
	if !ok {
		t.Fatalf("no transformer for %q", resource)
	}
	return found
}

// write encrypts as a write of that object would.
func (a *apiServer) write(t *testing.T, path, clear string) ([]byte, error) {
	t.Helper()
	return a.transformer(t, "secrets").TransformToStorage(t.Context(), []byte(clear), value.DefaultContext(path))
}

func (a *apiServer) mustWrite(t *testing.T, path, clear string) []byte {
	t.Helper()
	out, err := a.write(t, path, clear)
	if err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
	return out
}

// read decrypts; stale says that an update without a change would be written all the same.
func (a *apiServer) read(t *testing.T, path string, data []byte) (clear string, stale bool, err error) {
	t.Helper()
	out, stale, err := a.transformer(t, "secrets").TransformFromStorage(t.Context(), data, value.DefaultContext(path))
	return string(out), stale, err
}

func (a *apiServer) mustRead(t *testing.T, path string, data []byte, want string) (stale bool) {
	t.Helper()
	got, stale, err := a.read(t, path, data)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	if got != want {
		t.Fatalf("read %s: got %q, want %q", path, got, want)
	}
	return stale
}

// health is what a GET of /healthz/kms-providers finds; the API server caches good news for 20 s.
func (a *apiServer) health() error {
	return a.HealthChecks[0].Check(httptest.NewRequest("GET", "/healthz", nil))
}

// becomes polls, as the kubelet's probe does, until health is as wanted.
func (a *apiServer) becomes(t *testing.T, what string, wanted func(error) bool) error {
	t.Helper()
	var err error
	eventually(t, what, 45*time.Second, func() bool {
		err = a.health()
		return wanted(err)
	})
	return err
}

func (a *apiServer) becomesHealthy(t *testing.T) {
	t.Helper()
	a.becomes(t, "healthy", func(err error) bool { return err == nil })
}

func (a *apiServer) becomesUnhealthy(t *testing.T) error {
	t.Helper()
	return a.becomes(t, "unhealthy", func(err error) bool { return err != nil })
}

func eventually(t *testing.T, what string, within time.Duration, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not %s within %s", what, within)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func parse(t *testing.T, provider string, data []byte) *stored.Object {
	t.Helper()
	o, err := stored.Parse(provider, data)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// metric adds up every sample of the metric that carries these labels ("name", "value", ...); of a
// histogram it is the number of observations.
func metric(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	samples:
		for _, sample := range family.GetMetric() {
			has := map[string]string{}
			for _, pair := range sample.GetLabel() {
				has[pair.GetName()] = pair.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if has[labels[i]] != labels[i+1] {
					continue samples
				}
			}
			switch {
			case sample.Histogram != nil:
				sum += float64(sample.GetHistogram().GetSampleCount())
			case sample.Counter != nil:
				sum += sample.GetCounter().GetValue()
			default:
				sum += sample.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// calls counts the finished calls of one KMS method.
func calls(t *testing.T, provider, method string) float64 {
	t.Helper()
	return metric(t, "apiserver_envelope_encryption_kms_operations_latency_seconds",
		"provider_name", provider, "method_name", "/v2.KeyManagementService/"+method)
}

// newKey makes a KEK for this test.
func newKey(t *testing.T) sidecar.Key {
	t.Helper()
	key, err := bench.NewKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// start runs a sidecar that writes with the key; its socket lies in a short directory.
func start(t *testing.T, s sidecar.Settings) *sidecar.Sidecar {
	t.Helper()
	return bench.ForTest(t, shortDir(t), "kms", s)
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// clock is a real clock that can be set forward.
func clock() (ahead func(time.Duration), now func() time.Time) {
	var offset atomic.Int64
	return func(d time.Duration) { offset.Store(int64(d)) },
		func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
}

// faulty starts a plugin in this process that a test can make misbehave.
func faulty(t *testing.T) (*plugin.Plugin, string) {
	t.Helper()
	id := sidecar.UUID()
	p := plugin.New(plugin.Ring{Write: id, Keys: map[string][]byte{id: sidecar.StandInKey(id)}})
	socket := shortDir(t) + "/kms.sock"
	stop, err := p.Serve(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return p, "unix://" + socket
}
