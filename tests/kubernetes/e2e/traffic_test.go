package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsservice "k8s.io/kms/pkg/service"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/plugin"
	"barbican-kms/tests/kubernetes/sidecar"
)

// traffic reads and writes Secrets through API servers without pause, and counts what fails.
type traffic struct {
	w      *world
	cancel context.CancelFunc
	group  sync.WaitGroup
	// Of each API server: held while one of its requests is on its way.
	gates map[*cluster.APIServer]*sync.RWMutex

	mu            sync.Mutex
	reads, writes int
	failures      []string
	killed        map[*cluster.APIServer]bool
	lost          int               // requests that a killed API server had in flight
	values        map[string]string // of the Secrets that were written
}

// every is how long each reader and writer waits between requests.
const every = 50 * time.Millisecond

// traffic begins; the Secret "old" must be there.
func (w *world) traffic(servers ...*cluster.APIServer) *traffic {
	ctx, cancel := context.WithCancel(w.t.Context())
	tr := &traffic{
		w: w, cancel: cancel, gates: map[*cluster.APIServer]*sync.RWMutex{},
		killed: map[*cluster.APIServer]bool{}, values: map[string]string{"old": "hunter2"},
	}
	w.t.Cleanup(func() { cancel(); tr.group.Wait() })
	for i, a := range servers {
		tr.gates[a] = &sync.RWMutex{}
		mine := func(n int) string { return fmt.Sprintf("traffic-%d-%d", i, n%20) }
		writes := 0
		tr.run(ctx, a, &tr.writes, func() error {
			s := cluster.Secret{
				Metadata: cluster.Metadata{Name: mine(writes), Namespace: namespace},
				Data:     map[string][]byte{"value": fmt.Append(nil, writes)},
			}
			writes++
			var err error
			if writes <= 20 {
				err = a.CreateSecret(ctx, namespace, s.Metadata.Name, string(s.Data["value"]))
			} else {
				_, err = a.PutSecret(ctx, s)
			}
			tr.wrote(s, err)
			return err
		})
		reads := 0
		tr.run(ctx, a, &tr.reads, func() error {
			reads++
			if reads%20 == 0 {
				_, err := a.ListSecrets(ctx, namespace)
				return err
			}
			s, err := a.GetSecret(ctx, namespace, "old")
			if err == nil && string(s.Data["value"]) != "hunter2" {
				err = fmt.Errorf("the old Secret reads %q", s.Data["value"])
			}
			return err
		})
	}
	return tr
}

func (tr *traffic) run(ctx context.Context, a *cluster.APIServer, count *int, request func() error) {
	tr.group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			tr.gates[a].RLock()
			if tr.isKilled(a) {
				tr.gates[a].RUnlock()
				continue
			}
			err := request()
			tr.gates[a].RUnlock()
			if ctx.Err() != nil {
				return
			}
			tr.mu.Lock()
			*count++
			if err != nil && tr.killed[a] {
				tr.lost++
			} else if err != nil {
				tr.failures = append(tr.failures, fmt.Sprintf("%s: %s: %v", time.Now().Format(time.TimeOnly), a.Name, err))
			}
			tr.mu.Unlock()
		}
	})
}

// without runs f while no request goes to the API server.
func (tr *traffic) without(a *cluster.APIServer, f func()) {
	tr.gates[a].Lock()
	defer tr.gates[a].Unlock()
	f()
}

// kill ends the API server with requests on their way, which may fail, and calls f before there
// are more.
func (tr *traffic) kill(a *cluster.APIServer, f func()) {
	tr.setKilled(a, true)
	a.Kill()
	f()
	// What was on its way has failed by now, or is not counted before this.
	tr.without(a, func() { tr.setKilled(a, false) })
}

func (tr *traffic) setKilled(a *cluster.APIServer, killed bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.killed[a] = killed
}

func (tr *traffic) isKilled(a *cluster.APIServer) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.killed[a]
}

// wrote keeps the value that must be read at the end; none where the answer was lost.
func (tr *traffic) wrote(s cluster.Secret, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if err != nil {
		delete(tr.values, s.Metadata.Name)
	} else {
		tr.values[s.Metadata.Name] = string(s.Data["value"])
	}
}

// readable fails the test unless the API server gives out every Secret as it was written last. The
// traffic has ended.
func (tr *traffic) readable(a *cluster.APIServer) {
	t := tr.w.t
	t.Helper()
	list, err := a.ListSecrets(tr.w.soon(time.Minute), namespace)
	check(t, err)
	found := map[string]string{}
	for _, s := range list {
		found[s.Metadata.Name] = string(s.Data["value"])
	}
	for name, value := range tr.values {
		if found[name] != value {
			t.Errorf("%s: Secret %s reads %q, want %q", a.Name, name, found[name], value)
		}
	}
}

// end stops the traffic; a single failed request fails the test.
func (tr *traffic) end() {
	t := tr.w.t
	t.Helper()
	tr.cancel()
	tr.group.Wait()
	report.note(t, "reads", tr.reads)
	report.note(t, "writes", tr.writes)
	report.note(t, "failed requests", len(tr.failures))
	if tr.lost > 0 {
		report.note(t, "requests that a killed API server had in flight", tr.lost)
	}
	if tr.reads < 100 || tr.writes < 100 {
		t.Errorf("only %d reads and %d writes: the traffic proves nothing", tr.reads, tr.writes)
	}
	if len(tr.failures) > 0 {
		t.Errorf("%d requests failed, the first: %s", len(tr.failures), tr.failures[0])
	}
}

// direct is a client of the sidecar itself.
func (w *world) direct(c *sidecar.Sidecar) kmsservice.Service {
	w.t.Helper()
	service, err := kmsv2.NewGRPCService(w.t.Context(), c.Endpoint(), "direct", 3*time.Second)
	check(w.t, err)
	return service
}

// holds waits until the sidecar decrypts with exactly these keys of all.
func (w *world) holds(c *sidecar.Sidecar, all []sidecar.Key, held ...sidecar.Key) {
	w.t.Helper()
	service := w.direct(c)
	for _, key := range all {
		want := slices.ContainsFunc(held, func(k sidecar.Key) bool { return k.ID == key.ID })
		request := sealedWith(w.t, key)
		eventually(w.t, fmt.Sprintf("%s holds %s: %v", c.Name, key.ID, want), 30*time.Second, func() bool {
			_, err := service.Decrypt(w.t.Context(), "uid", request)
			if want {
				return err == nil
			}
			return status.Code(err) == codes.FailedPrecondition
		})
	}
}

// sealedWith is a seed that somebody with the key has sealed.
func sealedWith(t *testing.T, key sidecar.Key) *kmsservice.DecryptRequest {
	t.Helper()
	sealed, err := plugin.Seal(key.Bytes, make([]byte, 32))
	check(t, err)
	tag, err := plugin.Tag(key.Bytes, key.ID, sealed)
	check(t, err)
	return &kmsservice.DecryptRequest{
		Ciphertext: sealed, KeyID: key.ID, Annotations: map[string][]byte{plugin.Annotation: tag},
	}
}
