package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// What runs out on a node.
var limitHarms = []harm{
	{"disk of socket, config and audit log full", func(c *campaign, r *rand.Rand) {
		c.full(r, func(home string) error {
			file, err := os.Create(filepath.Join(home, "filler"))
			if err != nil {
				return err
			}
			defer file.Close()
			for size := 1 << 16; size > 0; size /= 2 {
				for err == nil {
					_, err = file.Write(make([]byte, size))
				}
				err = nil
			}
			return nil
		})
	}},
	{"inode table of socket, config and audit log full", func(c *campaign, r *rand.Rand) {
		c.full(r, func(home string) error {
			for n := range 1000 {
				file, err := os.Create(filepath.Join(home, fmt.Sprintf("filler%d", n)))
				if err != nil {
					return nil
				}
				_ = file.Close()
			}
			return fmt.Errorf("%s takes any number of files", home)
		})
	}},
	{"descriptors at the limit, and connections without end", func(c *campaign, r *rand.Rand) {
		if _, err := exec.LookPath("prlimit"); err != nil {
			c.leaveOut("needs prlimit")
			return
		}
		i := r.IntN(3)
		s := c.sidecars[i]
		now, err := measure(s.PID())
		check(c.t, err)
		before, err := exec.Command("prlimit", "--pid", pid(s), "--nofile", "--raw", "--noheadings", "--output", "SOFT").Output()
		check(c.t, err)
		check(c.t, execute("prlimit", "--pid", pid(s), fmt.Sprintf("--nofile=%d:", now.descriptors+2)))
		flood := c.flood(i, 300)
		c.nodes[i].reset()
		c.wait(3*time.Second + seconds(r, 8))
		flood()
		c.over()
		check(c.t, execute("prlimit", "--pid", pid(s), "--nofile="+string(before[:len(before)-1])+":"))
	}},
	{"memory at the limit of the manifest, and connections without end", func(c *campaign, r *rand.Rand) { c.squeeze(r) }},
}

// full fills the directories of a node. Its sidecar may be killed meanwhile, or its cloud-config
// edited, which leaves an empty file.
func (c *campaign) full(r *rand.Rand, fill func(home string) error) {
	c.t.Helper()
	if os.Geteuid() != 0 {
		c.leaveOut("needs root to mount a small disk")
		return
	}
	i, kill := r.IntN(3), r.IntN(2) == 0
	n, s := c.nodes[i], c.sidecars[i]
	check(c.t, fill(n.home))
	c.wait(seconds(r, 5))
	if kill && i != undying {
		defer c.excuse(i)()
		s.Kill()
		check(c.t, s.Start())
		c.wait(seconds(r, 5))
	} else {
		_ = os.WriteFile(s.Config, []byte(c.text(i)), 0o600)
		c.wait(seconds(r, 5))
	}
	c.over()
	fillers, err := filepath.Glob(filepath.Join(n.home, "filler*"))
	check(c.t, err)
	for _, filler := range fillers {
		check(c.t, os.Remove(filler))
	}
	check(c.t, os.WriteFile(s.Config, []byte(c.text(i)), 0o600))
	if !s.Alive() {
		// As the kubelet does.
		c.say("%s ended, and is started again", s.Name)
		check(c.t, s.Start())
	}
	c.hasKey(s)
}

// flood opens connections to a sidecar that say nothing, and calls that end at once; the function
// ends it.
func (c *campaign) flood(i, connections int) (end func()) {
	c.t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		defer func() {
			for _, conn := range open {
				_ = conn.Close()
			}
		}()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if len(open) > connections {
				_ = open[0].Close()
				open = open[1:]
			}
			conn, err := net.DialTimeout("unix", c.sidecars[i].Socket, time.Second)
			if err != nil {
				continue
			}
			// The beginning of HTTP/2, and half a frame.
			_, _ = conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x40\x00\x00"))
			open = append(open, conn)
		}
	}()
	return func() { close(stop); <-done }
}

// What the manifest allows a sidecar.
const memoryLimit = 64 << 20

// squeeze gives a sidecar no more memory than the manifest does, under a flood.
func (c *campaign) squeeze(r *rand.Rand) {
	c.t.Helper()
	i := r.IntN(3)
	s := c.sidecars[i]
	name := fmt.Sprintf("barbican-kms-campaign-%d", os.Getpid())
	root, limit := "/sys/fs/cgroup", "memory.max"
	if _, err := os.Stat(root + "/memory/memory.limit_in_bytes"); err == nil {
		root, limit = root+"/memory", "memory.limit_in_bytes"
	}
	group := filepath.Join(root, name)
	if err := os.Mkdir(group, 0o755); err != nil {
		c.leaveOut("no cgroup can be made here")
		return
	}
	leave := func() {
		_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(pid(s)), 0)
		_ = os.Remove(group)
	}
	// What it has already is charged to the group that it comes from.
	now, err := measure(s.PID())
	check(c.t, err)
	left := memoryLimit - now.resident<<10
	if err := os.WriteFile(filepath.Join(group, limit), []byte(strconv.Itoa(left)), 0); err != nil {
		leave()
		c.leaveOut("no cgroup limits memory here")
		return
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(pid(s)), 0); err != nil {
		leave()
		c.leaveOut("no process can be moved to a cgroup here")
		return
	}
	defer leave()
	flood := c.flood(i, 2000)
	c.wait(5*time.Second + seconds(r, 6))
	flood()
	if !s.Alive() {
		c.t.Errorf("%s does not live with %d MiB", s.Name, memoryLimit>>20)
	}
}
