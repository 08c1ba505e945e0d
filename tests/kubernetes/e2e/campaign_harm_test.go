package e2e

import (
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
)

// harms are all kinds.
func (c *campaign) harms() (all []harm) {
	for _, some := range [][]harm{
		processHarms, serverHarms, cloudHarms, fileHarms, keyHarms, limitHarms, diskHarms, networkHarms, packetHarms,
		pagedHarms,
	} {
		all = append(all, some...)
	}
	return all
}

// To the programs of a node.
var processHarms = []harm{
	{"sidecar killed", func(c *campaign, r *rand.Rand) {
		i := r.IntN(undying)
		defer c.excuse(i)()
		c.sidecars[i].Kill()
		c.over()
		c.serve(c.sidecars[i])
	}},
	{"sidecar stopped", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		defer c.excuse(i)()
		c.pauses(c.sidecars[i].Process, r)
	}},
	{"sidecar exchanged for another build and back", func(c *campaign, r *rand.Rand) {
		i := r.IntN(undying)
		other := os.Getenv(envOther)
		if other == "" {
			other = bench.Bin
		}
		for _, bin := range []string{other, bench.Bin} {
			end := c.excuse(i)
			c.sidecars[i].Use(bin)
			stop(c.t, c.sidecars[i].Process)
			c.undone = time.Now()
			c.serve(c.sidecars[i])
			end()
		}
	}},
	{"file of the socket deleted", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		check(c.t, os.Remove(c.sidecars[i].Socket))
		c.over()
		check(c.t, c.sidecars[i].Listening(c.soon(10*time.Second)))
	}},
	{"API server killed", func(c *campaign, r *rand.Rand) {
		a := c.servers[r.IntN(3)]
		c.traffic.kill(a, func() { c.over(); c.start(a) })
	}},
	{"API server stopped", func(c *campaign, r *rand.Rand) { c.pauses(c.servers[r.IntN(3)].Process, r) }},
	{"etcd killed", func(c *campaign, r *rand.Rand) {
		defer c.excuse(0, 1, 2)()
		c.Etcd.Kill()
		c.wait(seconds(r, 5))
		c.over()
		c.beginEtcd()
		check(c.t, c.Etcd.Ready(c.soon(time.Minute)))
		for _, a := range c.servers {
			c.ready(a)
		}
	}},
	{"etcd stopped", func(c *campaign, r *rand.Rand) {
		defer c.excuse(0, 1, 2)()
		c.pauses(c.Etcd.Process, r)
		for _, a := range c.servers {
			c.ready(a)
		}
	}},
	{"clock a day ahead", func(c *campaign, r *rand.Rand) { c.clock(r, 24*time.Hour) }},
	{"clock a day behind", func(c *campaign, r *rand.Rand) { c.clock(r, -24*time.Hour) }},
}

// To Keystone and Barbican. No request may notice.
var serverHarms = []harm{
	{"Barbican closed", func(c *campaign, r *rand.Rand) { c.without(openstack.Barbican, seconds(r, 10)) }},
	{"Keystone closed", func(c *campaign, r *rand.Rand) { c.without(openstack.Keystone, seconds(r, 10)) }},
	{"Barbican killed", func(c *campaign, r *rand.Rand) { c.kills(r, openstack.Barbican) }},
	{"Keystone killed", func(c *campaign, r *rand.Rand) { c.kills(r, openstack.Keystone) }},
	{"Barbican and Keystone killed", func(c *campaign, r *rand.Rand) { c.kills(r, openstack.Barbican, openstack.Keystone) }},
	{"Barbican stopped", func(c *campaign, r *rand.Rand) { c.freezes(r, openstack.Barbican) }},
	{"Keystone stopped", func(c *campaign, r *rand.Rand) { c.freezes(r, openstack.Keystone) }},
}

// excuse says that requests to these nodes may fail, for the kind of harm.
func (c *campaign) excuse(nodes ...int) (end func()) {
	var servers []*cluster.APIServer
	for _, i := range nodes {
		servers = append(servers, c.servers[i])
	}
	return c.traffic.excuse(c.kind, servers...)
}

// pauses stops a process for less than what anybody's patience is.
func (c *campaign) pauses(process *proc.Process, r *rand.Rand) {
	c.t.Helper()
	check(c.t, process.Signal(syscall.SIGSTOP))
	c.wait(seconds(r, 5))
	c.over()
	check(c.t, process.Signal(syscall.SIGCONT))
}

// kills servers of the cloud, and starts them after a while.
func (c *campaign) kills(r *rand.Rand, servers ...string) {
	c.t.Helper()
	for _, server := range servers {
		check(c.t, c.container.Kill(c.soon(time.Minute), server))
	}
	c.wait(seconds(r, 10))
	check(c.t, c.cloud.Revive(c.soon(5*time.Minute)))
}

// freezes a server of the cloud: who asks it hears nothing.
func (c *campaign) freezes(r *rand.Rand, server string) {
	c.t.Helper()
	check(c.t, c.container.Freeze(c.soon(time.Minute), server))
	c.wait(seconds(r, 12))
	check(c.t, c.container.Thaw(c.soon(2*time.Minute), server))
}

// clock moves that of a sidecar, and back.
func (c *campaign) clock(r *rand.Rand, ahead time.Duration) {
	c.t.Helper()
	i := r.IntN(3)
	if c.nodes[i].clock == "" {
		c.leaveOut("needs a sidecar that is not static, and a C compiler")
		return
	}
	check(c.t, c.nodes[i].setClock(ahead))
	c.wait(3*time.Second + seconds(r, 12))
	c.over()
	check(c.t, c.nodes[i].setClock(0))
}

func seconds(r *rand.Rand, most int) time.Duration {
	return time.Second + time.Duration(r.Int64N(int64(most)*int64(time.Second)))
}
