package e2e

import (
	"sync"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/sidecar"
)

// Everything of a control plane starts at once, as after the boot of its machine, while Barbican is
// up: how long it takes to the first Secret, and what takes how much of it.
func TestAControlPlaneBootsColdWhileBarbicanIsUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "boot")
	key := w.newKey()
	w.seedSecret(key)
	stop(t, w.Etcd.Process)
	c := w.newSidecar("sidecar", sidecar.Settings{Write: key.ID})
	a := w.newAPIServer(cluster.Options{Name: "apiserver", Prefix: "/late"}, kms(c))

	began := time.Now()
	w.beginEtcd()
	c.MustStart(t)
	listening := time.Since(began)
	m := w.observe(a)
	m.came()
	var etcd, held time.Duration
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := w.Etcd.Ready(w.soon(time.Minute)); err != nil {
			t.Error(err)
		}
		etcd = time.Since(began)
	})
	service := w.direct(c)
	eventually(t, "the sidecar holds its key", time.Minute, func() bool {
		_, err := service.Status(t.Context())
		return err == nil
	})
	held = time.Since(began)
	parts.Wait()
	m.untilWhole(3 * time.Minute)

	start := m.at.Sub(began)
	report.note(t, "sidecar listening", listening)
	report.note(t, "key held", held)
	report.note(t, "etcd ready", etcd)
	report.note(t, "kube-apiserver ready", start+m.after("readyz"))
	report.note(t, "first Secret", start+m.after("read of an old Secret"))
}
