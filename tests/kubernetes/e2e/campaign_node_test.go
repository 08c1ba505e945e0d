package e2e

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/alerts"
	"barbican-kms/tests/kubernetes/disk"
	"barbican-kms/tests/kubernetes/link"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
	"barbican-kms/tests/kubernetes/sidecar"
)

// node is what one node of a campaign has for itself.
type node struct {
	bench    *sidecar.Bench
	settings sidecar.Settings
	// Its ways to the cloud.
	keystone, barbican *openstack.Wire
	names              *openstack.Names // nil without root
	link               *link.Link       // which these lie on; nil without root
	home               string           // socket, config, authorities and audit log; a small disk of its own as root
	disk               *disk.Disk       // that one; nil where it can only be full
	noDisk             error            // why
	clock              string           // a file; empty where its clock cannot be moved
	metricsAddress     string
}

// The sidecar of this node is never ended: its memory must not grow as long as the campaign lasts.
const undying = 2

// diskSize is how large the disk of a node is.
const diskSize = "size=1m,nr_inodes=48"

func newCampaign(t *testing.T, seed uint64) *campaign {
	t.Helper()
	c := &campaign{
		plane: &plane{world: newWorld(t, "campaign")}, seed: seed,
		took: map[string][]time.Duration{}, skipped: map[string]string{}, secrets: map[string][]byte{},
	}
	c.contain("--tls")
	var err error
	c.authority, err = openstack.NewAuthority("campaign")
	check(t, err)
	check(t, c.container.Trust(c.authority))
	check(t, c.container.Certify(c.soon(time.Minute), c.authority, time.Now().AddDate(0, 1, 0)))
	// Of the operator and of rotate-key, who ask all sidecars.
	c.bench = &sidecar.Bench{Bin: bench.Bin, Cloud: c.container.Cloud, Apart: true}
	c.populate(func(i int, name string) *sidecar.Sidecar {
		n := c.newNode(i, name)
		c.nodes = append(c.nodes, n)
		s, err := n.bench.New(c.dir, name, n.settings)
		check(t, err)
		return s
	})
	c.learnsSecrets()
	c.pager = c.newPager()
	c.call()
	return c
}

func (c *campaign) newNode(i int, name string) *node {
	t := c.t
	t.Helper()
	n := &node{home: filepath.Join(c.dir, name+".t")}
	check(t, os.MkdirAll(n.home, 0o700))
	var err error
	if n.noDisk = disk.Usable(); n.noDisk == nil {
		n.disk, err = disk.Mount(n.home, diskSize)
		check(t, err)
		t.Cleanup(n.disk.Close)
	} else if os.Geteuid() == 0 {
		check(t, execute("mount", "-t", "tmpfs", "-o", diskSize, "tmpfs", n.home))
		t.Cleanup(func() { _ = execute("umount", "-l", n.home) })
	}
	from := openstack.Loopback
	if os.Geteuid() == 0 {
		from = n.apart(t)
	}
	n.keystone, err = openstack.NewWire(c.container.Address(openstack.Keystone), from)
	check(t, err)
	t.Cleanup(n.keystone.Close)
	n.barbican, err = openstack.NewWire(c.container.Address(openstack.Barbican), from)
	check(t, err)
	t.Cleanup(n.barbican.Close)

	n.metricsAddress, err = alerts.FreeAddress(i + 1)
	check(t, err)
	n.bench = &sidecar.Bench{Bin: bench.Bin, Apart: true, Args: []string{
		"--audit-log", filepath.Join(n.home, "audit.log"), "--metrics-address", n.metricsAddress,
	}}
	keystone, barbican := from.Reached, from.Reached
	if n.link != nil {
		forward, err := n.link.Forward(n.metricsAddress)
		check(t, err)
		t.Cleanup(forward.Close)
		foreign, err := openstack.NewAuthority("nobody knows me")
		check(t, err)
		pair, err := foreign.Pair()
		check(t, err)
		n.names, err = openstack.NewNames(from, n.keystone.Port(), pair)
		check(t, err)
		t.Cleanup(n.names.Close)
		files := filepath.Join(c.dir, name+".names")
		check(t, os.Mkdir(files, 0o700))
		by, err := n.names.By(files)
		check(t, err)
		n.bench.By = append(n.link.By(), by...)
		keystone, barbican = openstack.KeystoneName, openstack.BarbicanName
	}
	authorities := filepath.Join(n.home, "ca.pem")
	check(t, proc.WriteWhole(authorities, openstack.Bundle(c.authority)))
	n.bench.Cloud, err = c.container.Seen("https://"+keystone+":"+n.keystone.Port(), authorities)
	check(t, err)
	n.settings = c.settings()
	n.settings.Endpoint = "https://" + barbican + ":" + n.barbican.Port()
	if library := c.clockLibrary(); library != "" {
		n.clock = filepath.Join(c.dir, name+".clock")
		check(t, os.WriteFile(n.clock, make([]byte, 8), 0o600))
		n.bench.Env = []string{"LD_PRELOAD=" + library, "CAMPAIGN_CLOCK=" + n.clock}
	}
	return n
}

// apart gives the node a network of its own.
func (n *node) apart(t *testing.T) openstack.Place {
	t.Helper()
	var err error
	n.link, err = link.New()
	check(t, err)
	t.Cleanup(n.link.Close)
	return openstack.Place{
		Server: link.Server, Reached: link.Reached, OtherServer: link.OtherServer, OtherReached: link.OtherReached,
		Listen: n.link.Listen, ListenPacket: n.link.ListenPacket,
	}
}

// metrics is where Prometheus asks the sidecar of a node, which may be in a network of its own.
func (n *node) metrics() string { return n.metricsAddress }

// configure writes the settings that the nodes should have, and has them taken up.
func (c *campaign) configure(i int) {
	c.t.Helper()
	check(c.t, c.sidecars[i].Configure(c.nodes[i].settings))
}

// setAuthorities changes whom a node trusts; nobody tells its sidecar.
func (n *node) setAuthorities(authorities ...*openstack.Authority) error {
	return proc.WriteWhole(filepath.Join(n.home, "ca.pem"), openstack.Bundle(authorities...))
}

// weather on both ways of a node.
func (n *node) weather(w openstack.Weather) error {
	if err := n.keystone.Set(w); err != nil {
		return err
	}
	return n.barbican.Set(w)
}

// reset ends the connections of a node to the cloud.
func (n *node) reset() {
	n.keystone.Reset()
	n.barbican.Reset()
}

// clockLibrary builds what moves the clock of a program that uses the system's libc, once.
func (c *campaign) clockLibrary() string {
	library := filepath.Join(c.dir, "clock.so")
	if _, err := os.Stat(library); err == nil {
		return library
	}
	compiler, err := exec.LookPath("cc")
	program, open := elf.Open(bench.Bin)
	if err != nil || open != nil {
		return ""
	}
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) == 0 {
		return ""
	}
	source, err := filepath.Abs("testdata/clock.c")
	check(c.t, err)
	check(c.t, execute(compiler, "-shared", "-fPIC", "-O1", "-o", library, source))
	return library
}

// setClock moves the wall clock of a node's sidecar.
func (n *node) setClock(ahead time.Duration) error {
	text := make([]byte, 8)
	for i, seconds := 0, int64(ahead/time.Second); i < 8; i++ {
		text[i] = byte(seconds >> (8 * i))
	}
	file, err := os.OpenFile(n.clock, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteAt(text, 0)
	return err
}

func execute(command ...string) error {
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", command, err, out)
	}
	return nil
}

func pid(c *sidecar.Sidecar) string { return strconv.Itoa(c.PID()) }
