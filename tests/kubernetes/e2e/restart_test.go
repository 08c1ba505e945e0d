package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/plugin"
	"barbican-kms/tests/kubernetes/sidecar"
	"barbican-kms/tests/kubernetes/stored"
)

func TestASecretIsStoredEncryptedAndSurvivesTheRestartOfEveryPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "restart")
	key := w.newKey()
	c := w.sidecar("sidecar", sidecar.Settings{Write: key.ID})
	a := w.newAPIServer(cluster.Options{Name: "apiserver"}, kms(c))
	began := time.Now()
	w.start(a)
	report.note(t, "start of kube-apiserver until ready", time.Since(began))

	w.create(a, "first", "hunter2")
	value := w.inEtcd(a, "first")
	if !bytes.HasPrefix(value, []byte(stored.Prefix(provider))) || bytes.Contains(value, []byte("hunter2")) {
		t.Fatalf("etcd has %.60q", value)
	}
	if o := w.object(a, "first"); o.KeyID != key.ID || len(o.Annotations[plugin.Annotation]) != 32 || o.SeedType != stored.HKDFSeed {
		t.Errorf("stored with key id %q, annotations %v, seed type %d", o.KeyID, o.Annotations, o.SeedType)
	}
	w.reads(a, "first", "hunter2")
	w.noErrors(a)

	written := []string{"first"}
	// holds checks that all that was ever written reads, and that writing goes on.
	holds := func(after string) {
		t.Helper()
		w.ready(a)
		for _, name := range written {
			w.reads(a, name, "hunter2")
		}
		name := strings.ToLower(strings.Join(strings.Fields("after "+after), "-"))
		w.create(a, name, "hunter2")
		written = append(written, name)
		w.reads(a, name, "hunter2")
	}

	w.restart(a)
	holds("kube-apiserver")
	w.noErrors(a)

	stop(t, c.Process)
	w.serve(c)
	holds("the sidecar")
	c.Kill()
	w.serve(c)
	holds("a killed sidecar")
	// While it was gone, no more than the question after its health may have failed.
	w.noErrors(a, "Status")

	stop(t, w.Etcd.Process)
	w.beginEtcd()
	check(t, w.Etcd.Ready(w.soon(30*time.Second)))
	holds("etcd")

	// All at once, and back in every order, each a second after the one before.
	parts := map[string]func(){
		"etcd":      w.beginEtcd,
		"sidecar":   func() { w.serve(c) },
		"apiserver": func() { w.begin(a) },
	}
	for _, order := range [][]string{
		{"etcd", "sidecar", "apiserver"}, {"etcd", "apiserver", "sidecar"}, {"sidecar", "etcd", "apiserver"},
		{"sidecar", "apiserver", "etcd"}, {"apiserver", "etcd", "sidecar"}, {"apiserver", "sidecar", "etcd"},
	} {
		var together sync.WaitGroup
		together.Go(func() { stop(t, a.Process) })
		together.Wait()
		together.Go(func() { stop(t, w.Etcd.Process) })
		together.Go(func() { stop(t, c.Process) })
		together.Wait()
		began := time.Now()
		gap := time.NewTicker(time.Second)
		for _, part := range order {
			parts[part]()
			<-gap.C
		}
		gap.Stop()
		exits := 0
		eventually(t, "ready after "+fmt.Sprint(order), 3*time.Minute, func() bool {
			// The kubelet would start it again when it gave up on etcd.
			if !a.Alive() {
				exits++
				w.begin(a)
			}
			return a.Probe(t.Context(), "/readyz") == nil
		})
		report.note(t, "ready after a start of "+strings.Join(order, ", "), time.Since(began))
		if exits > 0 {
			report.note(t, "exits of kube-apiserver with "+strings.Join(order, ", "), exits)
		}
		holds(strings.Join(order, " "))
		if i := slices.Index(order, "sidecar"); i < slices.Index(order, "apiserver") {
			w.noErrors(a)
		}
	}
}
