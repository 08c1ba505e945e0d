package e2e

import (
	"math/rand/v2"
	"syscall"
	"time"

	"barbican-kms/tests/kubernetes/disk"
)

// Calls are answered from memory: the slowest that a disk may make one. What does not wait for a
// disk takes milliseconds.
const slowestCall = 2 * time.Second

// A disk that hangs comes back by itself after this, whatever became of the campaign: nobody can end
// a process that waits for it.
const hangsAtMost = 30 * time.Second

// To the disk of socket, config, authorities and audit log. No request may notice.
var diskHarms = []harm{
	{"disk slow", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		c.ails(i, disk.Trouble{Delay: between(r, 200*time.Millisecond, 1500*time.Millisecond)}, func() {
			// What the campaign writes is slow too.
			c.configure(i)
			c.wait(3*time.Second + seconds(r, 8))
		})
	}},
	{"disk hangs", func(c *campaign, r *rand.Rand) {
		c.ails(r.IntN(3), disk.Trouble{Hang: hangsAtMost}, func() { c.wait(2*time.Second + seconds(r, 9)) })
	}},
	{"disk hangs after a change of the files", func(c *campaign, r *rand.Rand) {
		i, authorities := r.IntN(3), r.IntN(2) == 0
		n := c.nodes[i]
		if n.disk == nil {
			c.leaveOut(n.noDisk.Error())
			return
		}
		good := n.settings
		if authorities {
			check(c.t, n.setAuthorities(c.authority, c.newAuthority()))
		} else {
			n.settings.Revalidate += time.Duration(1+r.IntN(5)) * time.Second
			c.configure(i)
		}
		c.ails(i, disk.Trouble{Hang: hangsAtMost}, func() { c.wait(2*time.Second + seconds(r, 9)) })
		n.settings = good
		check(c.t, n.setAuthorities(c.authority))
		c.applies(i)
	}},
	{"disk fails", func(c *campaign, r *rand.Rand) {
		fail := []disk.Fail{disk.Writes, disk.Everything}[r.IntN(2)]
		c.ails(r.IntN(3), disk.Trouble{Fail: fail}, func() { c.wait(3*time.Second + seconds(r, 8)) })
	}},
	{"disk cannot be read while a sidecar reloads", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		c.ails(i, disk.Trouble{Fail: disk.Reads}, func() {
			c.refuses(i, func() { check(c.t, c.sidecars[i].Signal(syscall.SIGHUP)) })
			c.wait(seconds(r, 5))
			// What it has read before is in use.
			status, err := c.sidecars[i].Status(c.soon(time.Minute))
			check(c.t, err)
			if !status.Ready || status.Configuration.Good() || status.WriteKeyID != c.writeKey() {
				c.t.Errorf("%s, which cannot read its files, says %+v", c.sidecars[i].Name, status)
			}
		})
		c.configure(i)
	}},
	{"disk slow while a sidecar is killed", func(c *campaign, r *rand.Rand) {
		i := r.IntN(undying)
		c.ails(i, disk.Trouble{Delay: between(r, 50*time.Millisecond, 400*time.Millisecond)}, func() {
			defer c.excuse(i)()
			c.sidecars[i].Kill()
			check(c.t, c.sidecars[i].Start())
			check(c.t, c.sidecars[i].Listening(c.soon(time.Minute)))
			// Its clients pause between their attempts to connect.
			listened := time.Now()
			eventually(c.t, c.sidecars[i].Name+" is called again", time.Minute, func() bool {
				return c.traffic.answered(c.servers[i]).last.After(listened)
			})
		})
	}},
}

// ails has a disk in trouble for as long as the function runs, and checks that its sidecar answers
// as if it were not.
func (c *campaign) ails(i int, trouble disk.Trouble, meanwhile func()) {
	c.t.Helper()
	n, a := c.nodes[i], c.servers[i]
	if n.disk == nil {
		c.leaveOut(n.noDisk.Error())
		return
	}
	// The harm before may have cost callers their connection: nobody can have a new one through
	// a disk that fails.
	begin := time.Now()
	eventually(c.t, c.sidecars[i].Name+" is called", time.Minute, func() bool {
		return c.traffic.answered(a).last.After(begin)
	})
	_, err := n.disk.Set(trouble)
	check(c.t, err)
	// Where the test ends, too: the sidecar could not be stopped.
	defer func() { _, _ = n.disk.Set(disk.Trouble{}) }()
	meanwhile()
	c.over()
	met, err := n.disk.Set(disk.Trouble{})
	check(c.t, err)
	healed, slowest := time.Now(), time.Duration(0)
	eventually(c.t, c.sidecars[i].Name+" answers", time.Minute, func() bool {
		of := c.traffic.answered(a)
		slowest = max(slowest, of.slowest)
		return of.last.After(healed)
	})
	if met == 0 {
		c.t.Errorf("nothing met the disk in trouble: it proves nothing")
	}
	if slowest > slowestCall {
		c.t.Errorf("%s: a call took %s while there was trouble with its disk: %+v", a.Name, slowest.Round(tenth), trouble)
	}
}

// between two durations.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}
