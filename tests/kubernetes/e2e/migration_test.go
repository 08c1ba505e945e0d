package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/plugin"
	"barbican-kms/tests/kubernetes/sidecar"
	"barbican-kms/tests/kubernetes/stored"
)

func TestEncryptionIsTurnedOnOverClearTextAndOffAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "onoff")
	key := w.newKey()
	c := w.sidecar("sidecar", sidecar.Settings{Write: key.ID})
	a := w.newAPIServer(cluster.Options{Name: "apiserver"})

	var names []string
	// step restarts with these providers and looks how a new Secret is stored, and that all read.
	step := func(what string, encrypted bool, providers ...cluster.Provider) {
		t.Helper()
		a.WithEncryption()
		if len(providers) == 0 {
			a.WithoutEncryption()
		}
		check(t, a.SetEncryption(providers...))
		if a.Process != nil {
			stop(t, a.Process)
		}
		w.start(a)
		for _, name := range names {
			w.reads(a, name, "hunter2")
		}
		name := fmt.Sprintf("secret-%d", len(names))
		w.create(a, name, "hunter2")
		names = append(names, name)
		if clear := bytes.Contains(w.inEtcd(a, name), []byte("hunter2")); clear == encrypted {
			t.Fatalf("%s: a new Secret is stored encrypted: %v, want %v", what, !clear, encrypted)
		}
		if len(providers) > 0 {
			w.noErrors(a)
		}
	}
	holds := func(what, id string) {
		t.Helper()
		w.migrate(a)
		if ids := w.keyIDs(a); len(ids) != 1 || ids[id] < len(names) {
			t.Fatalf("%s: etcd has objects of %v", what, ids)
		}
	}

	step("no encryption", false)
	step("the sidecar reads", false, cluster.Identity, kms(c))
	step("the sidecar writes", true, kms(c), cluster.Identity)
	holds("turned on", key.ID)
	step("no clear text is read", true, kms(c))

	step("clear text is read again", true, kms(c), cluster.Identity)
	step("clear text is written again", false, cluster.Identity, kms(c))
	holds("turned off", "")
	stop(t, c.Process)
	step("no encryption any more", false)
}

// T11, with two sidecars of two keys, and no restart until the end.
func TestAnotherProviderTakesOverWhileKubeAPIServerRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "takeover")
	first := w.sidecar("first", sidecar.Settings{Write: w.newKey().ID})
	second := w.sidecar("second", sidecar.Settings{Write: w.newKey().ID})
	old := kms(first)
	next := cluster.Provider{Name: "next", Endpoint: second.Endpoint()}
	a := w.newAPIServer(cluster.Options{Name: "apiserver", Reload: true}, old)
	w.start(a)
	w.create(a, "of-old", "hunter2")
	storedBy := func(name string, p cluster.Provider) {
		t.Helper()
		if !bytes.HasPrefix(w.inEtcd(a, name), []byte(stored.Prefix(p.Name))) {
			t.Errorf("%s is not stored by %s", name, p.Name)
		}
	}
	storedBy("of-old", old)

	w.reload(a, next, old)
	w.create(a, "of-next", "hunter2")
	storedBy("of-next", next)
	w.reads(a, "of-old", "hunter2")
	w.migrate(a)
	storedBy("of-old", next)

	w.reload(a, next)
	check(t, a.Probe(w.soon(time.Minute), "/readyz"))
	stop(t, first.Process)
	w.reads(a, "of-old", "hunter2")
	w.noErrors(a)
	w.restart(a)
	w.reads(a, "of-old", "hunter2")
	w.reads(a, "of-next", "hunter2")
	w.noErrors(a)
}

func TestEveryResourceOfTheAPIMayGoThroughTheSidecar(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "all")
	c := w.sidecar("sidecar", sidecar.Settings{Write: w.newKey().ID})
	a := w.newAPIServer(cluster.Options{Name: "apiserver"})
	check(t, a.SetEncryptionOf([]string{"*.*"}, kms(c)))
	w.start(a)
	w.create(a, "a", "hunter2")

	values, err := w.Etcd.List(w.soon(time.Minute), a.Prefix+"/")
	check(t, err)
	encrypted := map[string]int{}
	for _, v := range values {
		resource, _, _ := strings.Cut(strings.TrimPrefix(string(v.Key), a.Prefix+"/"), "/")
		if bytes.HasPrefix(v.Value, []byte(stored.Prefix(provider))) {
			encrypted[resource]++
		} else if resource != "ranges" && resource != "peerserverleases" {
			// These two are kube-apiserver's own notes, which no REST resource shows.
			t.Errorf("%s is in clear text", v.Key)
		}
	}
	for _, resource := range []string{"secrets", "namespaces", "clusterroles", "leases", "priorityclasses"} {
		if encrypted[resource] == 0 {
			t.Errorf("etcd has no encrypted %s, only %v", resource, encrypted)
		}
	}
	w.restart(a)
	w.reads(a, "a", "hunter2")
	w.noErrors(a)
}

func TestDataOfTheGoPluginIsReadAndTheWayBackStaysOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "goplugin")
	key := w.newKey()
	c := w.newSidecar("sidecar", sidecar.Settings{Write: key.ID})
	a := w.newAPIServer(cluster.Options{Name: "apiserver"}, kms(c))

	// The Go plugin on the same key and the same socket.
	goPlugin := func() (end func()) {
		t.Helper()
		p := plugin.New(plugin.Ring{Write: key.ID, Keys: map[string][]byte{key.ID: key.Bytes}, Legacy: true})
		end, err := p.Serve(c.Socket)
		check(t, err)
		return end
	}
	tagged := func(name string) bool {
		t.Helper()
		_, ok := w.object(a, name).Annotations[plugin.Annotation]
		return ok
	}

	end := goPlugin()
	w.start(a)
	w.create(a, "of-go", "hunter2")
	if tagged("of-go") {
		t.Fatal("the Go plugin writes no tag")
	}
	stop(t, a.Process)
	end()

	w.serve(c)
	w.start(a)
	w.reads(a, "of-go", "hunter2")
	w.create(a, "of-ours", "hunter2")
	if !tagged("of-ours") {
		t.Error("what is written now carries no tag")
	}
	w.noErrors(a)
	stop(t, a.Process)
	stop(t, c.Process)

	end = goPlugin()
	t.Cleanup(end)
	w.start(a)
	w.reads(a, "of-go", "hunter2")
	w.reads(a, "of-ours", "hunter2")
	w.create(a, "of-go-again", "hunter2")
	w.noErrors(a)
	stop(t, a.Process)
}
