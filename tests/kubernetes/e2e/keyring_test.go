package e2e

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/sidecar"
)

// plane is a control plane of three nodes whose sidecars follow one container.
type plane struct {
	*world
	container *openstack.Container
	sidecars  []*sidecar.Sidecar
	servers   []*cluster.APIServer
	operator  *operator
	traffic   *traffic
	cloud     *openstack.Cloud // as its operator reaches it
}

// One command rotates the keys of three API servers, under reads and writes through all of them
// and through everything that may go wrong meanwhile.
func TestOneCommandRotatesTheKeysOfThreeAPIServersThroughOutagesAndKills(t *testing.T) {
	t.Parallel()
	needsCloud(t)
	p := newPlane(t, "keyring")

	// The pauses of a real cluster are minutes long; --long has them once.
	words, outage := quickly, 15*time.Second
	if os.Getenv(envLong) != "" {
		words, outage = toTheEnd, time.Minute
	}
	p.rotates("Barbican away for "+outage.String(), words, func(r *rotation) {
		r.says("staged key")
		p.without(openstack.Barbican, outage)
		r.says("Barbican does not answer")
	})
	p.rotates("a sidecar and an API server killed", quickly, func(r *rotation) {
		r.says("staged key")
		p.sidecars[2].Kill()
		r.says(p.sidecars[2].Name + ": does not say its status")
		p.serve(p.sidecars[2])
		r.says("until every node writes")
		p.traffic.kill(p.servers[1], func() { p.start(p.servers[1]) })
	})
	if os.Getenv(envLong) != "" {
		p.rotatesThoughKilled()
	}
	p.comesBackFromADeletedKey()

	p.traffic.end()
	p.restartAll()
	for _, a := range p.servers {
		p.traffic.readable(a)
		p.noErrors(a)
	}
}

// newPlane starts everything, with a first key and some Secrets, and begins the traffic.
func newPlane(t *testing.T, name string) *plane {
	t.Helper()
	p := &plane{world: newWorld(t, name)}
	p.contain()
	p.bench = &sidecar.Bench{Bin: bench.Bin, Cloud: p.container.Cloud}
	p.populate(func(_ int, node string) *sidecar.Sidecar { return p.newSidecar(node, p.settings()) })
	return p
}

// contain starts a cloud with a container of one key.
func (p *plane) contain(kind ...string) {
	p.t.Helper()
	p.cloud = p.ownCloud(kind...)
	var err error
	p.container, err = p.cloud.NewContainer(p.soon(time.Minute), p.newKey().ID)
	check(p.t, err)
}

// populate starts three nodes, with a sidecar each, and the traffic.
func (p *plane) populate(prepare func(i int, node string) *sidecar.Sidecar) {
	p.t.Helper()
	var nodes []string
	for i := range 3 {
		node := fmt.Sprintf("cp-%d", i+1)
		c := prepare(i, node)
		p.serve(c)
		a := p.newAPIServer(cluster.Options{Name: "apiserver-" + node}, kms(c))
		p.begin(a)
		nodes, p.sidecars, p.servers = append(nodes, node), append(p.sidecars, c), append(p.servers, a)
	}
	for _, a := range p.servers {
		p.ready(a)
		p.kubelet(a)
	}
	p.create(p.servers[0], "old", "hunter2")
	p.operator = p.world.operator(p.cloud, p.servers[0], nodes...)
	p.traffic = p.world.traffic(p.servers...)
}

func (p *plane) settings() sidecar.Settings {
	return sidecar.Settings{Container: p.container.ID, Revalidate: revalidate}
}

const revalidate = 10 * time.Second

// The words for a rotation to the retirement of the old key, and without the pauses of a real
// cluster.
var (
	toTheEnd = []string{"start", "--retire-after", "0s"}
	quickly  = []string{"start", "--retire-after", "0s", "--quiet", "2"}
)

// rotated runs the tool with a disturbance on the way, and returns how long it took.
func (p *plane) rotated(words []string, disturb func(*rotation)) (r *rotation, whole time.Duration) {
	p.t.Helper()
	before := p.writeKey()
	r = p.operator.begin(words...)
	disturb(r)
	whole = r.done()
	p.onlyNewKey(before)
	return r, whole
}

// rotates notes how long a rotation takes.
func (p *plane) rotates(what string, words []string, disturb func(*rotation)) {
	p.t.Helper()
	r, whole := p.rotated(words, disturb)
	for text, took := range map[string]time.Duration{"activated": r.said(activated), "migrated": r.said(migrated), "whole": whole} {
		report.note(p.t, what+": "+text, took)
	}
}

// rotatesThoughKilled kills the tool after one step after the other, and runs it again.
func (p *plane) rotatesThoughKilled() {
	p.t.Helper()
	steps := []string{
		"ordered key", "staged key", "until every node holds", activated, "until every node writes", "KEP-3299",
		"migrating the storage", "  secrets: ", "retired key",
	}
	before, began := p.writeKey(), time.Now()
	for _, step := range steps {
		r := p.operator.begin(quickly...)
		r.says(step)
		r.Kill()
	}
	report.note(p.t, "killed after each step: whole", time.Since(began))
	report.note(p.t, "killed after each step: times", len(steps))
	p.operator.begin("retire").done()
	p.onlyNewKey(before)
}

// comesBackFromADeletedKey deletes the only key, and does what the runbook says: nothing is
// restarted, and one more rotation.
func (p *plane) comesBackFromADeletedKey() {
	p.t.Helper()
	deleted := p.deletesKey()
	began := time.Now()
	p.operator.begin("start", "--quiet", "2").done()
	p.onlyNewKey(deleted)
	report.note(p.t, "the only key deleted in Barbican: whole", time.Since(began))
}

// deletesKey deletes the secret of the write key in Barbican, and waits until every sidecar has
// seen it, and keeps the key.
func (p *plane) deletesKey() (deleted string) {
	p.t.Helper()
	deleted = p.writeKey()
	check(p.t, p.container.DeleteSecret(p.soon(time.Minute), deleted))
	for _, c := range p.sidecars {
		eventually(p.t, c.Name+" has seen that the container lists no key, and keeps it", 2*time.Minute, func() bool {
			status, err := c.Status(p.t.Context())
			check(p.t, err)
			if status.WriteKeyID != deleted || len(status.Keys) == 0 || !status.Keys[0].Held {
				p.t.Fatalf("%s has given the deleted key up: %+v", c.Name, status)
			}
			return !status.Keys[0].Listed
		})
	}
	return deleted
}

// without a server of the cloud for a while.
func (p *plane) without(server string, d time.Duration) {
	p.t.Helper()
	check(p.t, p.container.Close(p.soon(time.Minute), server))
	p.wait(d)
	check(p.t, p.container.Open(p.soon(time.Minute), server))
}

// wait is for what a scenario says the length of.
func (p *plane) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.t.Context().Done():
	}
}

func (p *plane) writeKey() string {
	p.t.Helper()
	id, err := p.container.Write(p.soon(time.Minute))
	check(p.t, err)
	return id
}

// onlyNewKey checks that everything in etcd is stored under one key, which is the container's and
// not the earlier one.
func (p *plane) onlyNewKey(earlier string) {
	p.t.Helper()
	now, ids := p.writeKey(), p.keyIDs(p.servers[0])
	if now == earlier || now == "" || ids[now] == 0 || len(ids) != 1 {
		p.t.Fatalf("etcd has objects of %v; the write key was %s and is %q", ids, earlier, now)
	}
}

// restartAll starts every sidecar and API server anew, with nothing in memory: what reads after
// that needs nothing but the keys that the container lists.
func (p *plane) restartAll() {
	p.t.Helper()
	var together sync.WaitGroup
	for i := range p.servers {
		together.Go(func() {
			stop(p.t, p.servers[i].Process)
			stop(p.t, p.sidecars[i].Process)
		})
	}
	together.Wait()
	key := p.writeKey()
	for i, c := range p.sidecars {
		p.serve(c)
		status, err := c.Status(p.soon(time.Minute))
		check(p.t, err)
		if !slices.Equal(status.IDs(), []string{key}) {
			p.t.Errorf("%s holds keys %v, want only %s", c.Name, status.IDs(), key)
		}
		p.begin(p.servers[i])
	}
	for _, a := range p.servers {
		p.ready(a)
	}
}
