package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
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

// traffic reads and writes Secrets through API servers without pause, holds every answer against
// what was written, and counts what fails.
type traffic struct {
	w      *world
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup
	// Of each API server: held while one of its requests is on its way.
	gates map[*cluster.APIServer]*sync.RWMutex

	mu            sync.Mutex
	reads, writes int
	calls         int // of the sidecars themselves
	failures      []string
	killed        map[*cluster.APIServer]bool
	lost          int              // requests that a killed API server had in flight
	values        map[string]*span // of the Secrets that were written
	excuses       []*excuse
	excused       map[string]int // failed requests, by what excuses them
	answers       map[*cluster.APIServer]answers
}

// span is what a Secret may read as: each write counts one up, and one whose answer was lost may
// have been done or not.
type span struct{ answered, sent int }

// answers of one sidecar to calls of its own.
type answers struct {
	slowest time.Duration // of those that nothing excuses, since somebody asked
	last    time.Time
}

// excuse is why requests to an API server may fail for a while.
type excuse struct {
	of    *cluster.APIServer
	cause string
	end   time.Time // zero until then
}

// wrongAnswer is one that nothing excuses.
type wrongAnswer struct{ error }

// every is how long each reader and writer waits between requests.
const every = 50 * time.Millisecond

// traffic begins; the Secret "old" must be there.
func (w *world) traffic(servers ...*cluster.APIServer) *traffic {
	ctx, cancel := context.WithCancel(w.t.Context())
	tr := &traffic{
		w: w, ctx: ctx, cancel: cancel, gates: map[*cluster.APIServer]*sync.RWMutex{},
		killed: map[*cluster.APIServer]bool{}, values: map[string]*span{}, excused: map[string]int{},
		answers: map[*cluster.APIServer]answers{},
	}
	w.t.Cleanup(func() { cancel(); tr.group.Wait() })
	for _, a := range servers {
		tr.gates[a] = &sync.RWMutex{}
	}
	for i, a := range servers {
		n := 0
		tr.run(a, &tr.writes, func() error {
			n++
			if n%200 == 0 {
				// These stay as they are.
				return tr.write(ctx, a, fmt.Sprintf("kept-%d-%d", i, n))
			}
			return tr.write(ctx, a, fmt.Sprintf("traffic-%d-%d", i, n%20))
		})
		m := 0
		tr.run(a, &tr.reads, func() error {
			m++
			switch {
			case m%20 == 0:
				return tr.list(ctx, a)
			case m%2 == 0:
				return tr.read(ctx, a, fmt.Sprintf("traffic-%d-%d", m/2%len(servers), m/2%20))
			}
			s, err := a.GetSecret(ctx, namespace, "old")
			if err == nil && string(s.Data["value"]) != "hunter2" {
				err = wrongAnswer{fmt.Errorf("the old Secret reads %q", s.Data["value"])}
			}
			return err
		})
	}
	return tr
}

// write counts a Secret up, and makes it where it is not there.
func (tr *traffic) write(ctx context.Context, a *cluster.APIServer, name string) error {
	tr.mu.Lock()
	of, there := tr.values[name]
	if !there {
		of = &span{answered: -1, sent: -1}
		tr.values[name] = of
	}
	of.sent++
	value, create := of.sent, of.answered < 0
	tr.mu.Unlock()

	s := cluster.Secret{
		Metadata: cluster.Metadata{Name: name, Namespace: namespace},
		Data:     map[string][]byte{"value": fmt.Append(nil, value)},
	}
	var err error
	if create {
		err = a.CreateSecret(ctx, namespace, name, string(s.Data["value"]))
	}
	var status *cluster.StatusError
	if !create || value > 0 && errors.As(err, &status) && status.Code == http.StatusConflict {
		_, err = a.PutSecret(ctx, s)
	}
	if err == nil {
		tr.mu.Lock()
		of.answered = value
		tr.mu.Unlock()
	}
	return err
}

// read compares a Secret with what was written before and while it was read.
func (tr *traffic) read(ctx context.Context, a *cluster.APIServer, name string) error {
	tr.mu.Lock()
	of, there := tr.values[name]
	if !there || of.answered < 0 {
		tr.mu.Unlock()
		return nil
	}
	least := of.answered
	tr.mu.Unlock()
	s, err := a.GetSecret(ctx, namespace, name)
	if err != nil {
		return err
	}
	return tr.plausible(s, least)
}

// list reads all; one of those that were there must not be missing.
func (tr *traffic) list(ctx context.Context, a *cluster.APIServer) error {
	tr.mu.Lock()
	least := map[string]int{}
	for name, of := range tr.values {
		if of.answered >= 0 {
			least[name] = of.answered
		}
	}
	tr.mu.Unlock()
	all, err := a.ListSecrets(ctx, namespace)
	if err != nil {
		return err
	}
	for _, s := range all {
		if at, known := least[s.Metadata.Name]; known {
			if err := tr.plausible(s, at); err != nil {
				return err
			}
			delete(least, s.Metadata.Name)
		}
	}
	for name := range least {
		return wrongAnswer{fmt.Errorf("the list lacks %s", name)}
	}
	return nil
}

func (tr *traffic) plausible(s cluster.Secret, least int) error {
	tr.mu.Lock()
	most := tr.values[s.Metadata.Name].sent
	tr.mu.Unlock()
	n, err := strconv.Atoi(string(s.Data["value"]))
	if err != nil || n < least || n > most {
		return wrongAnswer{fmt.Errorf("%s reads %q, want %d to %d", s.Metadata.Name, s.Data["value"], least, most)}
	}
	return nil
}

func (tr *traffic) run(a *cluster.APIServer, count *int, request func() error) {
	tr.group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tr.ctx.Done():
				return
			case <-tick.C:
			}
			tr.gates[a].RLock()
			if tr.isKilled(a) {
				tr.gates[a].RUnlock()
				continue
			}
			began := time.Now()
			err := request()
			tr.gates[a].RUnlock()
			if tr.ctx.Err() != nil {
				return
			}
			tr.count(a, count, began, err)
		}
	})
}

// count notes how a request went that began then.
func (tr *traffic) count(a *cluster.APIServer, count *int, began time.Time, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	*count++
	cause := tr.excusedBy(a, began)
	if of := tr.answers[a]; count == &tr.calls {
		if cause == "" {
			of.slowest = max(of.slowest, time.Since(began))
		}
		if err == nil {
			of.last = time.Now()
		}
		tr.answers[a] = of
	}
	if err == nil {
		return
	}
	var wrong wrongAnswer
	switch {
	case errors.As(err, &wrong):
		tr.failures = append(tr.failures, fmt.Sprintf("%s: %s: WRONG ANSWER: %v", time.Now().Format(time.TimeOnly), a.Name, err))
	case tr.killed[a]:
		tr.lost++
	case cause != "":
		tr.excused[cause]++
	default:
		tr.failures = append(tr.failures, fmt.Sprintf("%s: %s: %v", time.Now().Format(time.TimeOnly), a.Name, err))
	}
}

// answered says how long the slowest call took since this was last asked, and when there was the
// last answer.
func (tr *traffic) answered(a *cluster.APIServer) answers {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	of := tr.answers[a]
	tr.answers[a] = answers{last: of.last}
	return of
}

// excusedBy is the cause of an excuse that held while the request was on its way.
func (tr *traffic) excusedBy(a *cluster.APIServer, began time.Time) string {
	for _, e := range tr.excuses {
		if e.of == a && (e.end.IsZero() || e.end.After(began)) {
			return e.cause
		}
	}
	return ""
}

// excuse begins a time in which requests to these may fail.
func (tr *traffic) excuse(cause string, servers ...*cluster.APIServer) (end func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	// Those that are long over excuse nothing more.
	tr.excuses = slices.DeleteFunc(tr.excuses, func(e *excuse) bool {
		return !e.end.IsZero() && time.Since(e.end) > 5*time.Minute
	})
	var mine []*excuse
	for _, a := range servers {
		mine = append(mine, &excuse{of: a, cause: cause})
	}
	tr.excuses = append(tr.excuses, mine...)
	return func() {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for _, e := range mine {
			e.end = time.Now()
		}
	}
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
	if found["old"] != "hunter2" {
		t.Errorf("%s: the old Secret reads %q", a.Name, found["old"])
	}
	for name, of := range tr.values {
		n, err := strconv.Atoi(found[name])
		if of.answered >= 0 && (err != nil || n < of.answered || n > of.sent) {
			t.Errorf("%s: Secret %s reads %q, want %d to %d", a.Name, name, found[name], of.answered, of.sent)
		}
	}
}

func (tr *traffic) failed() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.failures) > 0
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
	for _, cause := range slices.Sorted(maps.Keys(tr.excused)) {
		report.note(t, "failed meanwhile: "+cause, tr.excused[cause])
	}
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
	return w.directUntil(w.t.Context(), c)
}

func (w *world) directUntil(ctx context.Context, c *sidecar.Sidecar) kmsservice.Service {
	w.t.Helper()
	service, err := kmsv2.NewGRPCService(ctx, c.Endpoint(), "direct", 3*time.Second)
	check(w.t, err)
	return service
}

// holds waits until the sidecar decrypts with exactly these keys of all.
func (w *world) holds(c *sidecar.Sidecar, all []sidecar.Key, held ...sidecar.Key) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	service := w.directUntil(ctx, c)
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
