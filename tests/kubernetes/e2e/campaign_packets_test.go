package e2e

import (
	"math/rand/v2"
	"time"

	"barbican-kms/tests/kubernetes/link"
)

// To the packets between the nodes, the cloud and the servers of names. No request may notice.
var packetHarms = []harm{
	{"packets lost", func(c *campaign, r *rand.Rand) { c.disturbs(r, link.Weather{Loss: 5 + r.IntN(40)}) }},
	{"packets late, doubled and out of order", func(c *campaign, r *rand.Rand) {
		c.disturbs(r, link.Weather{
			Delay: milliseconds(r, 300), Jitter: milliseconds(r, 500), Twice: r.IntN(20), Loss: r.IntN(5),
		})
	}},
	{"packets cut towards the cloud", func(c *campaign, r *rand.Rand) { c.disturbs(r, link.Weather{Up: true}) }},
	{"packets cut back from the cloud", func(c *campaign, r *rand.Rand) { c.disturbs(r, link.Weather{Down: true}) }},
	{"packets cut both ways", func(c *campaign, r *rand.Rand) { c.disturbs(r, link.Weather{Up: true, Down: true}) }},
	{"large packets lost", func(c *campaign, r *rand.Rand) { c.disturbs(r, link.Weather{Largest: 400 + r.IntN(800)}) }},
	{"connections forgotten by a firewall", func(c *campaign, r *rand.Rand) {
		if !c.apart() {
			return
		}
		for range 3 {
			for _, n := range c.nodes {
				n.link.Forget()
			}
			c.wait(seconds(r, 4))
		}
	}},
	{"sidecar killed while packets are lost", func(c *campaign, r *rand.Rand) {
		if !c.apart() {
			return
		}
		i := r.IntN(undying)
		defer c.excuse(i)()
		weathers := []link.Weather{
			{Loss: 30}, {Up: true}, {Down: true}, {Largest: 600}, {Delay: milliseconds(r, 500), Jitter: milliseconds(r, 500)},
		}
		c.nodes[i].link.Set(weathers[r.IntN(len(weathers))])
		c.sidecars[i].Kill()
		check(c.t, c.sidecars[i].Start())
		c.wait(seconds(r, 10))
		c.over()
		c.nodes[i].link.Set(link.Weather{})
		c.hasKey(c.sidecars[i])
	}},
}

// apart says whether the nodes have networks of their own.
func (c *campaign) apart() bool {
	if c.nodes[0].link == nil {
		c.leaveOut("a network namespace needs root")
		return false
	}
	return true
}

// disturbs the packets of one node, or of all.
func (c *campaign) disturbs(r *rand.Rand, w link.Weather) {
	c.t.Helper()
	if !c.apart() {
		return
	}
	all, one, reset := r.IntN(2) == 0, r.IntN(3), r.IntN(2) == 0
	for i, n := range c.nodes {
		if !all && i != one {
			continue
		}
		n.link.Set(w)
		if reset {
			n.link.Forget()
		}
	}
	c.wait(3*time.Second + seconds(r, 12))
	c.over()
	for _, n := range c.nodes {
		n.link.Set(link.Weather{})
	}
}

func milliseconds(r *rand.Rand, most int) time.Duration {
	return time.Duration(1+r.IntN(most)) * time.Millisecond
}
