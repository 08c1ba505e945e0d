package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/sidecar"
)

// A kube-apiserver that starts before what it needs: what it does meanwhile, and how long after the
// missing part came it takes to be whole.
func TestTheSidecarMayStartLaterThanKubeAPIServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "late")
	key := w.newKey()
	w.seedSecret(key)

	for _, late := range []time.Duration{time.Second, 30 * time.Second, 3 * time.Minute} {
		t.Run("by "+late.String(), func(t *testing.T) {
			if late > time.Minute {
				long(t)
			}
			t.Parallel()
			name := "late-" + late.String()
			sub := w.sub(t)
			c := sub.newSidecar(name, sidecar.Settings{Write: key.ID})
			a := sub.newAPIServer(cluster.Options{Name: "apiserver-" + name, Prefix: "/late"}, kms(c))
			m := sub.observe(a)
			started := c.StartLater(t, late, m.came)
			m.untilWhole(late + 3*time.Minute)
			started()
			m.record()
		})
	}
}

func TestBarbicanMayComeLaterThanKubeAPIServer(t *testing.T) {
	t.Parallel()
	cloudComesLate(t, openstack.Barbican)
}

func TestKeystoneMayComeLaterThanKubeAPIServer(t *testing.T) {
	t.Parallel()
	cloudComesLate(t, openstack.Keystone)
}

func cloudComesLate(t *testing.T, server string) {
	needsCloud(t)
	w := newWorld(t, "late-"+server)
	cloud := w.ownCloud()
	key := w.newKey()
	w.seedSecret(key)

	const late = 30 * time.Second
	check(t, cloud.Close(w.soon(time.Minute), server))
	c := w.newSidecar("sidecar", sidecar.Settings{Write: key.ID})
	c.MustStart(t)
	a := w.newAPIServer(cluster.Options{Name: "apiserver", Prefix: "/late"}, kms(c))
	m := w.observe(a)
	timer := time.AfterFunc(late, func() {
		m.came()
		if err := cloud.Open(t.Context(), server); err != nil {
			t.Error(err)
		}
	})
	defer timer.Stop()
	m.untilWhole(late + 3*time.Minute)
	m.record()
}

// seedSecret leaves a Secret of an earlier run of kube-apiserver in etcd.
func (w *world) seedSecret(key sidecar.Key) {
	w.t.Helper()
	c := w.sidecar("earlier", sidecar.Settings{Write: key.ID})
	a := w.newAPIServer(cluster.Options{Name: "apiserver-earlier", Prefix: "/late"}, kms(c))
	w.start(a)
	w.create(a, "old", "hunter2")
	stop(w.t, a.Process)
	stop(w.t, c.Process)
}

// sub is the same world for a subtest, with sockets and logs of its own.
func (w *world) sub(t *testing.T) *world {
	s := &world{t: t, dir: filepath.Join(w.dir), bench: w.bench, Cluster: w.Cluster}
	t.Cleanup(func() {
		for _, p := range s.apiservers {
			stop(t, p)
		}
	})
	return s
}

// observation is what one starting API server shows from outside.
type observation struct {
	w  *world
	a  *cluster.APIServer
	at time.Time

	mu     sync.Mutex
	cameAt time.Time
	first  map[string]time.Time      // of each check that passed
	errors map[string]map[string]int // of each check, what it said instead
	last   map[string]string         // of each check, what it said last
}

// observe starts the API server and tries everything, four times a second, until untilWhole ends.
func (w *world) observe(a *cluster.APIServer) *observation {
	w.t.Helper()
	m := &observation{w: w, a: a, at: time.Now(), first: map[string]time.Time{}, errors: map[string]map[string]int{}, last: map[string]string{}}
	w.begin(a)
	return m
}

// came marks the moment when the missing part began to be there.
func (m *observation) came() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cameAt = time.Now()
}

func (m *observation) untilWhole(within time.Duration) {
	t, a := m.w.t, m.a
	t.Helper()
	ctx := m.w.soon(within)
	n := 0
	checks := []struct {
		name string
		run  func() error
	}{
		{"livez", func() error { return a.Probe(ctx, "/livez") }},
		{"readyz", func() error { return a.Probe(ctx, "/readyz") }},
		{"read of an old Secret", func() error {
			s, err := a.GetSecret(ctx, namespace, "old")
			if err == nil && string(s.Data["value"]) != "hunter2" {
				t.Errorf("the old Secret reads %q", s.Data["value"])
			}
			return err
		}},
		{"list of Secrets", func() error { _, err := a.ListSecrets(ctx, namespace); return err }},
		{"write of a Secret", func() error {
			n++
			return a.CreateSecret(ctx, namespace, fmt.Sprintf("%s-%d", a.Name, n), "hunter2")
		}},
		{"write of a Namespace", func() error {
			n++
			return a.CreateNamespace(ctx, fmt.Sprintf("%s-%d", a.Name, n))
		}},
	}
	var group sync.WaitGroup
	for _, c := range checks {
		group.Go(func() {
			tick := time.NewTicker(250 * time.Millisecond)
			defer tick.Stop()
			for {
				err := c.run()
				m.saw(c.name, err)
				if err == nil || ctx.Err() != nil {
					return
				}
				<-tick.C
			}
		})
	}
	group.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range checks {
		if m.first[c.name].IsZero() {
			t.Errorf("%s never succeeded within %s: %v", c.name, within, m.errors[c.name])
		}
	}
	if !a.Alive() {
		t.Errorf("kube-apiserver gave up:\n%s", a.Tail())
	}
	for _, needy := range []string{"readyz", "read of an old Secret", "write of a Secret"} {
		if m.first[needy].Before(m.cameAt) || m.cameAt.IsZero() {
			t.Errorf("%s succeeded while the part was still missing: nothing was late", needy)
		}
	}
}

func (m *observation) saw(check string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.first[check] = time.Now()
		return
	}
	text := gist(err)
	if m.errors[check] == nil {
		m.errors[check] = map[string]int{}
	}
	m.errors[check][text]++
	m.last[check] = text
}

// gist is what an error says, without what differs from one time to the next.
func gist(err error) string {
	text := err.Error()
	if strings.Contains(text, "connection refused") {
		return "connection refused"
	}
	// A health endpoint lists all of its checks.
	var failed []string
	others := 0
	for _, line := range strings.Split(text, "\n") {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]")
		if !ok {
			continue
		}
		switch name, _, _ = strings.Cut(name, " "); name {
		case "kms-providers", "informer-sync", "etcd", "poststarthook/storage-readiness":
			failed = append(failed, name)
		default:
			others++
		}
	}
	if others > 0 {
		failed = append(failed, "checks of the start itself")
	}
	if failed != nil {
		return "500: failed: " + strings.Join(failed, ", ")
	}
	text, _, _ = strings.Cut(text, ", Code: 7")
	return text
}

// record writes down when each check first passed, counted from the start of kube-apiserver and
// from the arrival of the missing part, and what each said before.
func (m *observation) record() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, at := range m.first {
		text := fmt.Sprintf("%.1f s after start", at.Sub(m.at).Seconds())
		if !m.cameAt.IsZero() && at.After(m.cameAt) {
			text += fmt.Sprintf(", %.1f s after the missing part came", at.Sub(m.cameAt).Seconds())
		}
		report.note(m.w.t, "first "+name, text)
	}
	for name, said := range m.errors {
		delete(said, "connection refused")
		if len(said) > 0 {
			report.note(m.w.t, name+" said before", said)
		}
	}
}
