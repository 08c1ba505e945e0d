package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"barbican-kms/tests/kubernetes/proc"
)

// APIServer is one kube-apiserver.
type APIServer struct {
	*proc.Process
	URL        string
	Kubeconfig string
	// Encryption is the file of --encryption-provider-config.
	Encryption string
	// Prefix is where its objects lie in etcd.
	Prefix string

	clock   string
	options proc.Options
	client  *http.Client
}

// Options of an API server.
type Options struct {
	Name string
	// Prefix keeps clusters that share one etcd apart.
	Prefix string
	// Reload makes it take up a changed encryption config while it runs.
	Reload bool
	// NoEncryption leaves the encryption config away, as before anybody thought of it.
	NoEncryption bool
	// Provider is the KMS provider whose clock Ahead moves.
	Provider string
	Args     []string
}

// NewAPIServer prepares one; nothing runs yet.
func (c *Cluster) NewAPIServer(o Options) (*APIServer, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	if o.Prefix == "" {
		o.Prefix = "/registry"
	}
	in := func(name string) string { return filepath.Join(c.Dir, name) }
	a := &APIServer{
		URL:        fmt.Sprintf("https://127.0.0.1:%d", ports[0]),
		Kubeconfig: in(o.Name + ".kubeconfig"),
		Encryption: in(o.Name + ".encryption.yaml"),
		Prefix:     o.Prefix,
		clock:      in(o.Name + ".clock"),
	}
	args := []string{
		"--etcd-servers=" + c.Etcd.URL, "--etcd-prefix=" + o.Prefix,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]),
		"--tls-cert-file=" + in(servingCert), "--tls-private-key-file=" + in(servingKey),
		"--client-ca-file=" + in(caFile),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + in(serviceAccount), "--service-account-signing-key-file=" + in(serviceAccount),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=RBAC",
		// It cannot advertise a loopback address.
		"--endpoint-reconciler-type=none",
		"--v=2",
	}
	if !o.NoEncryption {
		args = append(args, "--encryption-provider-config="+a.Encryption)
		if o.Reload {
			args = append(args, "--encryption-provider-config-automatic-reload=true")
		}
	}
	a.options = proc.Options{
		Name: o.Name, Bin: c.programs.KubeAPIServer, Dir: c.Dir, Detach: c.detach, Args: append(args, o.Args...),
	}
	if o.Provider != "" {
		a.options.Env = append(a.options.Env, "KMS_CLOCK="+o.Provider+"="+a.clock)
	}
	if err := writeKubeconfig(a.Kubeconfig, a.URL, c.Dir); err != nil {
		return nil, err
	}
	a.client, err = adminClient(c.Dir)
	return a, err
}

func adminClient(pki string) (*http.Client, error) {
	ca, err := os.ReadFile(filepath.Join(pki, caFile))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	admin, err := tls.LoadX509KeyPair(filepath.Join(pki, adminCert), filepath.Join(pki, adminKey))
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout: 60 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{admin}},
			MaxIdleConnsPerHost: 16,
		},
	}, nil
}

// WithoutEncryption says whether the next Start leaves --encryption-provider-config away.
func (a *APIServer) WithoutEncryption() {
	a.options.Args = slices.DeleteFunc(a.options.Args, func(arg string) bool {
		return strings.HasPrefix(arg, "--encryption-provider-config")
	})
}

// WithEncryption undoes WithoutEncryption.
func (a *APIServer) WithEncryption() {
	a.WithoutEncryption()
	a.options.Args = append(a.options.Args, "--encryption-provider-config="+a.Encryption)
}

// Start runs the process and does not wait for it.
func (a *APIServer) Start() error {
	p, err := proc.Start(a.options)
	if err != nil {
		return err
	}
	a.Process = p
	return nil
}

// Ready waits until /readyz is ok.
func (a *APIServer) Ready(ctx context.Context) error {
	return poll(ctx, a.Process, 50*time.Millisecond, func() error { return a.Probe(ctx, "/readyz") })
}

// Probe asks a health endpoint, as the kubelet does.
func (a *APIServer) Probe(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_, err := a.Do(ctx, http.MethodGet, path, nil)
	return err
}

// Ahead sets the clock of the KMS provider forward by this much.
func (a *APIServer) Ahead(d time.Duration) error {
	return proc.WriteWhole(a.clock, []byte(d.String()))
}

// Provider is one entry of an encryption config; without endpoint it is identity.
type Provider struct {
	Name, Endpoint string
}

// Identity stores in clear text.
var Identity = Provider{}

// SetEncryption writes the encryption config for Secrets and ConfigMaps: the first provider writes,
// all read. It is in force after a restart, or after a reload where that is on.
func (a *APIServer) SetEncryption(providers ...Provider) error {
	return a.SetEncryptionOf([]string{"secrets", "configmaps"}, providers...)
}

// SetEncryptionOf does it for other resources.
func (a *APIServer) SetEncryptionOf(resources []string, providers ...Provider) error {
	var out strings.Builder
	fmt.Fprintf(&out, "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"+
		"- resources: ['%s']\n  providers:\n", strings.Join(resources, "', '"))
	for _, p := range providers {
		if p.Endpoint == "" {
			out.WriteString("  - identity: {}\n")
			continue
		}
		fmt.Fprintf(&out, "  - kms: {apiVersion: v2, name: %s, endpoint: %q, timeout: 3s}\n", p.Name, p.Endpoint)
	}
	return proc.WriteWhole(a.Encryption, []byte(out.String()))
}

// StatusError is an answer that is not a success.
type StatusError struct {
	Code int
	Body string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Body) }

// Do sends one request as the administrator.
func (a *APIServer) Do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, a.URL+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	out, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		message := string(out)
		var status struct{ Message string }
		if json.Unmarshal(out, &status) == nil && status.Message != "" {
			message = status.Message
		}
		return nil, &StatusError{answer.StatusCode, message}
	}
	return out, nil
}

// Secret is what the tests look at of a Secret.
type Secret struct {
	APIVersion string            `json:"apiVersion,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Metadata   Metadata          `json:"metadata"`
	Data       map[string][]byte `json:"data,omitempty"`
}

// Metadata of a Secret.
type Metadata struct {
	Name            string `json:"name"`
	Namespace       string `json:"namespace,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	UID             string `json:"uid,omitempty"`
}

// CreateNamespace makes a namespace; one that is there already is no error.
func (a *APIServer) CreateNamespace(ctx context.Context, name string) error {
	_, err := a.Do(ctx, http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}})
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusConflict {
		return nil
	}
	return err
}

// CreateSecret stores one value under the key "value".
func (a *APIServer) CreateSecret(ctx context.Context, namespace, name, value string) error {
	_, err := a.Do(ctx, http.MethodPost, secretPath(namespace, ""), Secret{
		Metadata: Metadata{Name: name}, Data: map[string][]byte{"value": []byte(value)},
	})
	return err
}

// GetSecret reads one from etcd, past the watch cache.
func (a *APIServer) GetSecret(ctx context.Context, namespace, name string) (Secret, error) {
	var s Secret
	out, err := a.Do(ctx, http.MethodGet, secretPath(namespace, name), nil)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// PutSecret writes one as it is.
func (a *APIServer) PutSecret(ctx context.Context, s Secret) (Secret, error) {
	out, err := a.Do(ctx, http.MethodPut, secretPath(s.Metadata.Namespace, s.Metadata.Name), s)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// DeleteSecret deletes one.
func (a *APIServer) DeleteSecret(ctx context.Context, namespace, name string) error {
	_, err := a.Do(ctx, http.MethodDelete, secretPath(namespace, name), nil)
	return err
}

// ListSecrets reads all of a namespace.
func (a *APIServer) ListSecrets(ctx context.Context, namespace string) ([]Secret, error) {
	out, err := a.Do(ctx, http.MethodGet, secretPath(namespace, ""), nil)
	if err != nil {
		return nil, err
	}
	var list struct{ Items []Secret }
	return list.Items, json.Unmarshal(out, &list)
}

func secretPath(namespace, name string) string {
	return strings.TrimSuffix("/api/v1/namespaces/"+namespace+"/secrets/"+name, "/")
}

// SecretKey is where etcd has a Secret.
func (a *APIServer) SecretKey(namespace, name string) string {
	return a.Prefix + "/secrets/" + namespace + "/" + name
}

// Sample is one line of /metrics.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Metrics reads /metrics.
func (a *APIServer) Metrics(ctx context.Context) ([]Sample, error) {
	out, err := a.Do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	var samples []Sample
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if s, ok := parseSample(lines.Text()); ok {
			samples = append(samples, s)
		}
	}
	return samples, lines.Err()
}

func parseSample(line string) (Sample, bool) {
	if strings.HasPrefix(line, "#") {
		return Sample{}, false
	}
	series, number, ok := cutLast(line, " ")
	if !ok {
		return Sample{}, false
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return Sample{}, false
	}
	name, rest, _ := strings.Cut(series, "{")
	s := Sample{Name: name, Labels: map[string]string{}, Value: value}
	for rest = strings.TrimSuffix(rest, "}"); rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return s, false
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil {
			return s, false
		}
		s.Labels[key], _ = strconv.Unquote(quoted)
		rest = strings.TrimPrefix(after[len(quoted):], ",")
	}
	return s, true
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Sum adds up the samples of a metric that carry these labels ("name", "value", ...).
func Sum(samples []Sample, name string, labels ...string) (sum float64) {
next:
	for _, s := range samples {
		if s.Name != name {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			if s.Labels[labels[i]] != labels[i+1] {
				continue next
			}
		}
		sum += s.Value
	}
	return sum
}

// Operations counts what the samples say of storage and plugin: those that went well of each metric,
// and the failures. Where a metric is missing, so is its count of good ones: it was renamed.
func Operations(samples []Sample) (good map[string]float64, bad []Sample) {
	good = map[string]float64{}
	for _, s := range samples {
		failed := false
		switch s.Name {
		case Transformations:
			failed = s.Labels["status"] != "OK"
		case Calls:
			failed = s.Labels["grpc_status_code"] != "OK"
		case "apiserver_envelope_encryption_invalid_key_id_from_status_total":
			failed = true
		default:
			continue
		}
		if !failed {
			good[s.Name] += s.Value
		} else if s.Value > 0 {
			bad = append(bad, s)
		}
	}
	return good, bad
}

// Metrics of the API server that count what goes through its storage and to its plugin.
const (
	Transformations = "apiserver_storage_transformation_operations_total"
	Calls           = "apiserver_envelope_encryption_kms_operations_latency_seconds_count"
	CallSeconds     = "apiserver_envelope_encryption_kms_operations_latency_seconds_sum"
)
