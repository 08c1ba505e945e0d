package e2e

import (
	"fmt"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/sidecar"
)

func TestAKeyIsRotatedUnderTwoAPIServersWithoutOneFailedRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "rotation")
	a, b := w.newKey(), w.newKey()
	both := []sidecar.Key{a, b}
	sidecars := []*sidecar.Sidecar{
		w.sidecar("sidecar-0", sidecar.Settings{Write: a.ID}),
		w.sidecar("sidecar-1", sidecar.Settings{Write: a.ID}),
	}
	var servers []*cluster.APIServer
	for i, c := range sidecars {
		s := w.newAPIServer(cluster.Options{Name: fmt.Sprintf("apiserver-%d", i)}, kms(c))
		w.start(s)
		w.kubelet(s)
		servers = append(servers, s)
	}
	w.create(servers[0], "old", "hunter2")
	const others = 50
	for i := range others {
		w.create(servers[i%2], fmt.Sprintf("old-%d", i), "hunter2")
	}
	tr := w.traffic(servers...)

	// 1. Every node can read what the new key will write.
	for _, c := range sidecars {
		check(t, c.Configure(sidecar.Settings{Write: a.ID, Decrypt: []string{b.ID}}))
	}
	for _, c := range sidecars {
		w.holds(c, both, a, b)
	}

	// 2. One node after the other writes with it.
	for i, c := range sidecars {
		began := time.Now()
		check(t, c.Configure(sidecar.Settings{Write: b.ID, Decrypt: []string{a.ID}}))
		n := 0
		eventually(t, servers[i].Name+" writes with the new key", time.Minute, func() bool {
			n++
			name := fmt.Sprintf("probe-%d-%d", i, n)
			w.create(servers[i], name, "hunter2")
			w.reads(servers[1-i], name, "hunter2")
			return w.object(servers[i], name).KeyID == b.ID
		})
		report.note(t, servers[i].Name+" writes with the new key after", time.Since(began))
	}

	// Old data is stale: an update without a change is written, once.
	if id := w.object(servers[0], "old-0").KeyID; id != a.ID {
		t.Fatalf("an untouched Secret has key %s", id)
	}
	before, err := servers[0].GetSecret(t.Context(), namespace, "old-0")
	check(t, err)
	first, err := servers[0].PutSecret(t.Context(), before)
	check(t, err)
	second, err := servers[0].PutSecret(t.Context(), first)
	check(t, err)
	if first.Metadata.ResourceVersion == before.Metadata.ResourceVersion {
		t.Error("a Secret of the old key was not rewritten by an update without a change")
	}
	if second.Metadata.ResourceVersion != first.Metadata.ResourceVersion {
		t.Error("a Secret of the new key was rewritten by an update without a change")
	}

	// 3. The storage is migrated.
	began := time.Now()
	n := w.migrate(servers[0])
	report.note(t, "objects migrated", n)
	report.note(t, "migration took", time.Since(began))
	if ids := w.keyIDs(servers[0]); ids[b.ID] < others || len(ids) != 1 {
		t.Fatalf("after the migration etcd has objects of %v, want only %s", ids, b.ID)
	}

	// 4. The old key leaves every ring.
	for _, c := range sidecars {
		check(t, c.Configure(sidecar.Settings{Write: b.ID}))
	}
	for _, c := range sidecars {
		w.holds(c, both, b)
	}

	// Cold API servers have no seed of the old key in their caches.
	for _, s := range servers {
		w.noErrors(s)
		tr.without(s, func() { w.restart(s) })
	}
	for _, s := range servers {
		for i := range others {
			w.reads(s, fmt.Sprintf("old-%d", i), "hunter2")
		}
	}
	tr.end()
	for _, s := range servers {
		w.noErrors(s)
	}
}
