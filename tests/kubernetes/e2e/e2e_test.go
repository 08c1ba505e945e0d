// Package e2e runs real etcd and kube-apiserver, with the sidecar between them and a real Barbican,
// through what happens to a control plane: restarts, outages, rotations, migrations.
//
// `scripts/e2e` builds and starts what it needs.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/disk"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
	"barbican-kms/tests/kubernetes/sidecar"
	"barbican-kms/tests/kubernetes/stored"
)

const (
	provider  = "barbican"
	namespace = "e2e"

	envReport = "KUBERNETES_REPORT" // a file for the figures, besides FILE.md
	envLong   = "KUBERNETES_LONG"   // set: also the variants that take minutes of real time
	envDir    = "KUBERNETES_DIR"    // logs and data go here and stay; unset: a temporary directory
)

var (
	bench    *sidecar.Bench
	programs cluster.Programs
	rootDir  string
	report   = newReport()
)

func TestMain(m *testing.M) {
	sidecar.ServeIfAsked()
	disk.ServeIfAsked()
	flag.Parse()
	// Most of the time the tests wait for timers of kube-apiserver.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	fail := func() int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if bench, err = sidecar.Open(); err != nil {
		return fail()
	}
	if programs, err = cluster.FindPrograms(); err != nil {
		return fail()
	}
	if rootDir = os.Getenv(envDir); rootDir == "" {
		// Short, because unix sockets lie in it.
		if rootDir, err = os.MkdirTemp("", "kms-e2e"); err != nil {
			return fail()
		}
		defer os.RemoveAll(rootDir)
	}
	code := m.Run()
	if err = report.write(os.Getenv(envReport)); err != nil {
		return fail()
	}
	return code
}

// world is one cluster of a test with its sidecars.
type world struct {
	t     *testing.T
	dir   string
	bench *sidecar.Bench
	*cluster.Cluster

	// At the end the API servers stop before the etcd that they would wait for.
	apiservers, etcds []*proc.Process
}

// newWorld starts an etcd for the test.
func newWorld(t *testing.T, name string) *world {
	t.Helper()
	dir := filepath.Join(rootDir, name)
	c, err := cluster.New(programs, dir, false)
	check(t, err)
	w := &world{t: t, dir: dir, bench: bench, Cluster: c}
	t.Cleanup(func() {
		for _, p := range append(w.apiservers, w.etcds...) {
			stop(t, p)
		}
	})
	w.beginEtcd()
	check(t, w.Etcd.Ready(w.soon(30*time.Second)))
	return w
}

func (w *world) beginEtcd() {
	w.t.Helper()
	check(w.t, w.Etcd.Start())
	w.etcds = append(w.etcds, w.Etcd.Process)
}

// soon is a context that ends the test rather than let it hang.
func (w *world) soon(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) newKey() sidecar.Key {
	w.t.Helper()
	key, err := w.bench.NewKey(w.soon(time.Minute))
	check(w.t, err)
	return key
}

// newSidecar prepares a sidecar that is not running.
func (w *world) newSidecar(name string, s sidecar.Settings) *sidecar.Sidecar {
	w.t.Helper()
	c, err := w.bench.New(w.dir, name, s)
	check(w.t, err)
	return c
}

// sidecar starts one and waits until it has its key: an API server that starts at once would
// count what it hears before that.
func (w *world) sidecar(name string, s sidecar.Settings) *sidecar.Sidecar {
	w.t.Helper()
	c := w.newSidecar(name, s)
	w.serve(c)
	return c
}

func (w *world) serve(c *sidecar.Sidecar) {
	w.t.Helper()
	c.MustStart(w.t)
	w.hasKey(c)
}

func (w *world) hasKey(c *sidecar.Sidecar) {
	w.t.Helper()
	// Its connection must not outlive this: a sidecar that restarts a hundred times gets them all.
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	service := w.directUntil(ctx, c)
	eventually(w.t, c.Name+" has its key", time.Minute, func() bool {
		_, err := service.Status(w.t.Context())
		return err == nil
	})
}

// newAPIServer prepares one whose Secrets go through the endpoint.
func (w *world) newAPIServer(o cluster.Options, providers ...cluster.Provider) *cluster.APIServer {
	w.t.Helper()
	a, err := w.NewAPIServer(o)
	check(w.t, err)
	check(w.t, a.SetEncryption(providers...))
	return a
}

// start starts an API server and waits until it is ready.
func (w *world) start(a *cluster.APIServer) {
	w.t.Helper()
	w.begin(a)
	w.ready(a)
}

func (w *world) begin(a *cluster.APIServer) {
	w.t.Helper()
	check(w.t, a.Start())
	w.apiservers = append(w.apiservers, a.Process)
}

func (w *world) ready(a *cluster.APIServer) {
	w.t.Helper()
	check(w.t, a.Ready(w.soon(3*time.Minute)))
}

func (w *world) restart(a *cluster.APIServer) {
	w.t.Helper()
	stop(w.t, a.Process)
	w.start(a)
}

func kms(c *sidecar.Sidecar) cluster.Provider {
	return cluster.Provider{Name: provider, Endpoint: c.Endpoint()}
}

func (w *world) create(a *cluster.APIServer, name, value string) {
	w.t.Helper()
	ctx := w.soon(time.Minute)
	check(w.t, a.CreateNamespace(ctx, namespace))
	check(w.t, a.CreateSecret(ctx, namespace, name, value))
}

func (w *world) reads(a *cluster.APIServer, name, want string) {
	w.t.Helper()
	s, err := a.GetSecret(w.soon(time.Minute), namespace, name)
	if err != nil {
		w.t.Errorf("read %s: %v", name, err)
	} else if got := string(s.Data["value"]); got != want {
		w.t.Errorf("read %s: %q, want %q", name, got, want)
	}
}

// inEtcd is what etcd has of a Secret.
func (w *world) inEtcd(a *cluster.APIServer, name string) []byte {
	w.t.Helper()
	value, err := w.Etcd.Get(w.soon(time.Minute), a.SecretKey(namespace, name))
	check(w.t, err)
	if value == nil {
		w.t.Fatalf("etcd has no %s", a.SecretKey(namespace, name))
	}
	return value
}

func (w *world) object(a *cluster.APIServer, name string) *stored.Object {
	w.t.Helper()
	o, err := stored.Parse(provider, w.inEtcd(a, name))
	check(w.t, err)
	return o
}

// migrate writes every Secret and ConfigMap again, as a storage migration does.
func (w *world) migrate(a *cluster.APIServer) (rewritten int) {
	w.t.Helper()
	ctx := w.soon(2 * time.Minute)
	for _, resource := range []string{"secrets", "configmaps"} {
		out, err := a.Do(ctx, "GET", "/api/v1/"+resource, nil)
		check(w.t, err)
		var list struct{ Items []map[string]any }
		check(w.t, json.Unmarshal(out, &list))
		for _, item := range list.Items {
			meta := item["metadata"].(map[string]any)
			path := fmt.Sprintf("/api/v1/namespaces/%s/%s/%s", meta["namespace"], resource, meta["name"])
			for {
				_, err := a.Do(ctx, "PUT", path, item)
				var status *cluster.StatusError
				if errors.As(err, &status) && status.Code == 409 {
					// Somebody wrote it meanwhile: take theirs and write that.
					out, err := a.Do(ctx, "GET", path, nil)
					check(w.t, err)
					item = nil
					check(w.t, json.Unmarshal(out, &item))
					continue
				}
				if errors.As(err, &status) && status.Code == 404 {
					break
				}
				check(w.t, err)
				rewritten++
				break
			}
		}
	}
	return rewritten
}

// keyIDs counts the stored Secrets and ConfigMaps by the key id in them; those in clear text count
// under "".
func (w *world) keyIDs(a *cluster.APIServer) map[string]int {
	w.t.Helper()
	ids := map[string]int{}
	for _, resource := range []string{"secrets", "configmaps"} {
		values, err := w.Etcd.List(w.soon(time.Minute), a.Prefix+"/"+resource+"/")
		check(w.t, err)
		for _, v := range values {
			if o, err := stored.Parse(provider, v.Value); err == nil {
				ids[o.KeyID]++
			} else {
				ids[""]++
			}
		}
	}
	return ids
}

// noErrors fails the test when the API server has counted any failure of storage or plugin, but
// for calls of the methods that may have failed.
func (w *world) noErrors(a *cluster.APIServer, mayFail ...string) {
	w.t.Helper()
	samples, err := a.Metrics(w.soon(time.Minute))
	check(w.t, err)
	good, bad := cluster.Operations(samples)
	bad = slices.DeleteFunc(bad, func(s cluster.Sample) bool {
		return slices.Contains(mayFail, strings.TrimPrefix(s.Labels["method_name"], "/v2.KeyManagementService/"))
	})
	if len(bad) > 0 {
		w.t.Errorf("%s counts errors that nothing here should cause: %v", a.Name, bad)
	}
	for _, name := range []string{cluster.Transformations, cluster.Calls} {
		if good[name] == 0 {
			w.t.Errorf("%s has counted nothing in %s", a.Name, name)
		}
	}
}

// kubelet probes /readyz once a second, as the kubelet does, until the returned function is called.
// The API server asks its plugin at most as often as it is probed.
func (w *world) kubelet(a *cluster.APIServer) (end func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			_ = a.Probe(ctx, "/readyz")
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	end = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(end)
	return end
}

// ownCloud gives the test a Keystone and a Barbican that it may take away.
func (w *world) ownCloud(kind ...string) *openstack.Cloud {
	w.t.Helper()
	needsCloud(w.t)
	cloud, err := openstack.Up(w.soon(5*time.Minute), filepath.Join(w.dir, "openstack"), kind...)
	check(w.t, err)
	w.t.Cleanup(func() {
		if err := cloud.Down(); err != nil {
			w.t.Error(err)
		}
	})
	w.bench = &sidecar.Bench{Bin: bench.Bin, Cloud: cloud}
	return cloud
}

// needsCloud skips what has no meaning without Barbican.
func needsCloud(t *testing.T) {
	t.Helper()
	if bench.StandIn() {
		t.Skip("the stand-in has no Barbican to lose")
	}
}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv(envLong) == "" {
		t.Skip("takes minutes of real time; scripts/e2e --long")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stop(t *testing.T, p *proc.Process) {
	t.Helper()
	if err := p.Stop(30 * time.Second); err != nil {
		t.Errorf("%v; its log ends:\n%s", err, p.Tail())
	}
}

func eventually(t *testing.T, what string, within time.Duration, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// findings are what the tests measured.
type findings struct {
	mu     sync.Mutex
	values map[string]map[string]any
}

func newReport() *findings { return &findings{values: map[string]map[string]any{}} }

// note keeps one figure of a test, and puts it into the test's log.
func (f *findings) note(t *testing.T, what string, value any) {
	t.Helper()
	if d, ok := value.(time.Duration); ok {
		value = d.Round(10 * time.Millisecond).String()
	}
	t.Logf("%s: %v", what, value)
	f.mu.Lock()
	defer f.mu.Unlock()
	name := strings.TrimPrefix(t.Name(), "Test")
	if f.values[name] == nil {
		f.values[name] = map[string]any{}
	}
	f.values[name][what] = value
}

func (f *findings) write(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if path == "" || len(f.values) == 0 {
		return nil
	}
	text, err := json.MarshalIndent(f.values, "", " ")
	if err != nil {
		return err
	}
	var table strings.Builder
	table.WriteString("| test | measured | value |\n|---|---|---|\n")
	for _, test := range slices.Sorted(maps.Keys(f.values)) {
		for _, what := range slices.Sorted(maps.Keys(f.values[test])) {
			fmt.Fprintf(&table, "| %s | %s | %v |\n", test, what, f.values[test][what])
		}
	}
	return errors.Join(os.WriteFile(path, append(text, '\n'), 0o644),
		os.WriteFile(path+".md", []byte(table.String()), 0o644))
}
