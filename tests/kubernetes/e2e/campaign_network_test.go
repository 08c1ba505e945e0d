package e2e

import (
	"math/rand/v2"
	"syscall"
	"time"

	"barbican-kms/tests/kubernetes/openstack"
)

// To the network between the nodes and the cloud. No request may notice.
var networkHarms = []harm{
	{"network slow and lossy", func(c *campaign, r *rand.Rand) {
		c.storm(r, openstack.Weather{
			Delay: time.Duration(r.IntN(300)) * time.Millisecond, Loss: r.IntN(40),
		})
	}},
	{"network with 200 bytes a second", func(c *campaign, r *rand.Rand) { c.storm(r, openstack.Weather{Slow: 200}) }},
	{"network cut towards the cloud", func(c *campaign, r *rand.Rand) { c.storm(r, openstack.Weather{Up: true}) }},
	{"network cut back from the cloud", func(c *campaign, r *rand.Rand) { c.storm(r, openstack.Weather{Down: true}) }},
	{"network cut both ways", func(c *campaign, r *rand.Rand) { c.storm(r, openstack.Weather{Up: true, Down: true}) }},
	{"network refuses", func(c *campaign, r *rand.Rand) { c.storm(r, openstack.Weather{Refuse: true}) }},
	{"network garbles", func(c *campaign, r *rand.Rand) { c.storm(r, openstack.Weather{Garbled: 30}) }},
	{"connections reset again and again", func(c *campaign, r *rand.Rand) {
		for range 10 {
			for _, n := range c.nodes {
				n.reset()
			}
			c.wait(seconds(r, 1))
		}
	}},
	{"sidecar killed while the network is cut", func(c *campaign, r *rand.Rand) {
		i := r.IntN(undying)
		defer c.excuse(i)()
		check(c.t, c.nodes[i].weather(openstack.Weather{Down: true}))
		c.sidecars[i].Kill()
		check(c.t, c.sidecars[i].Start())
		c.wait(seconds(r, 10))
		c.over()
		check(c.t, c.nodes[i].weather(openstack.Weather{}))
		c.hasKey(c.sidecars[i])
	}},
	{"several at once", func(c *campaign, r *rand.Rand) { c.several(r) }},
	{"names not answered", func(c *campaign, r *rand.Rand) { c.misnames(r, openstack.Nothing) }},
	{"names answered after 3 s", func(c *campaign, r *rand.Rand) { c.misnames(r, openstack.Slowly) }},
	{"names unknown", func(c *campaign, r *rand.Rand) { c.misnames(r, openstack.NoName) }},
	{"server of names fails", func(c *campaign, r *rand.Rand) { c.misnames(r, openstack.NoServer) }},
	{"names lead to another server", func(c *campaign, r *rand.Rand) { c.misnames(r, openstack.Lie) }},
}

// storm is bad weather for some nodes, or all, on their ways to Keystone, Barbican, or both.
func (c *campaign) storm(r *rand.Rand, w openstack.Weather) {
	c.t.Helper()
	all, which := r.IntN(2) == 0, r.IntN(3)
	one := r.IntN(3)
	for i, n := range c.nodes {
		if !all && i != one {
			continue
		}
		if which != 1 {
			check(c.t, n.keystone.Set(w))
		}
		if which != 2 {
			check(c.t, n.barbican.Set(w))
		}
		if r.IntN(2) == 0 {
			n.reset()
		}
	}
	c.wait(3*time.Second + seconds(r, 12))
	c.over()
	for _, n := range c.nodes {
		check(c.t, n.weather(openstack.Weather{}))
	}
}

// misnames has all servers of names answer so, and the sidecars connect anew.
func (c *campaign) misnames(r *rand.Rand, answer openstack.Answer) {
	c.t.Helper()
	if c.nodes[0].names == nil {
		c.leaveOut("a mount namespace needs root")
		return
	}
	for _, n := range c.nodes {
		n.names.Say(answer)
		n.reset()
	}
	c.wait(3*time.Second + seconds(r, 12))
	c.over()
	for _, n := range c.nodes {
		n.names.Say(openstack.Truth)
		if n.names.Fooled() > 0 {
			c.t.Errorf("a sidecar has spoken to a server that nobody vouches for")
		}
	}
}

// several gives each node weather and names of its own, closes Keystone or Barbican, stops a
// sidecar, and kills an API server, which has to start like this.
func (c *campaign) several(r *rand.Rand) {
	c.t.Helper()
	weathers := []openstack.Weather{
		{Down: true}, {Up: true}, {Refuse: true}, {Garbled: 30}, {Slow: 200}, {Delay: 300 * time.Millisecond, Loss: 30},
	}
	answers := []openstack.Answer{openstack.Nothing, openstack.NoName, openstack.Lie, openstack.Truth}
	for _, n := range c.nodes {
		check(c.t, n.weather(weathers[r.IntN(len(weathers))]))
		answer := answers[r.IntN(len(answers))]
		if n.names != nil {
			n.names.Say(answer)
		}
		n.reset()
	}
	server := []string{openstack.Keystone, openstack.Barbican}[r.IntN(2)]
	check(c.t, c.container.Close(c.soon(time.Minute), server))
	i := r.IntN(3)
	end := c.excuse(i)
	check(c.t, c.sidecars[i].Signal(syscall.SIGSTOP))
	c.wait(seconds(r, 2))
	check(c.t, c.sidecars[i].Signal(syscall.SIGCONT))
	end()
	a := c.servers[r.IntN(3)]
	c.traffic.kill(a, func() { c.start(a) })
	check(c.t, c.container.Open(c.soon(time.Minute), server))
	c.over()
	for _, n := range c.nodes {
		check(c.t, n.weather(openstack.Weather{}))
		if n.names != nil {
			n.names.Say(openstack.Truth)
		}
	}
}
