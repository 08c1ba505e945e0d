package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
	"barbican-kms/tests/kubernetes/sidecar"
)

// To what a sidecar logs in with, and whom it trusts. No request may notice.
var cloudHarms = []harm{
	{"tokens revoked", func(c *campaign, _ *rand.Rand) { check(c.t, c.container.RevokeTokens(c.soon(time.Minute))) }},
	{"credential replaced", func(c *campaign, _ *rand.Rand) {
		earlier := c.newCredential()
		for i := range c.nodes {
			c.applies(i)
		}
		check(c.t, c.container.DeleteCredential(c.soon(time.Minute), earlier))
	}},
	{"credential deleted before there is another", func(c *campaign, r *rand.Rand) {
		earlier := c.newCredential()
		check(c.t, c.container.DeleteCredential(c.soon(time.Minute), earlier))
		c.wait(seconds(r, 12))
		c.over()
		for i := range c.nodes {
			c.configure(i)
		}
	}},
	{"certificate renewed", func(c *campaign, _ *rand.Rand) { c.certify(time.Now().AddDate(0, 1, 0)) }},
	{"certificate expired", func(c *campaign, r *rand.Rand) {
		c.certify(time.Now().Add(-time.Minute))
		c.wait(3*time.Second + seconds(r, 8))
		c.certify(time.Now().AddDate(0, 1, 0))
	}},
	{"certificate of another authority", func(c *campaign, _ *rand.Rand) {
		earlier := c.authority
		c.authority = c.newAuthority()
		c.trust(earlier, c.authority)
		c.certify(time.Now().AddDate(0, 1, 0))
		c.trust(c.authority)
	}},
	{"authorities changed too late", func(c *campaign, r *rand.Rand) {
		c.authority = c.newAuthority()
		check(c.t, c.container.Trust(c.authority))
		c.certify(time.Now().AddDate(0, 1, 0))
		c.wait(3*time.Second + seconds(r, 8))
		c.over()
		c.trust(c.authority)
	}},
	{"file of the authorities damaged", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		whole := openstack.Bundle(c.authority)
		damaged := [][]byte{nil, whole[:len(whole)/2], bytes.ToLower(whole)}[r.IntN(3)]
		path := filepath.Join(c.nodes[i].home, "ca.pem")
		if r.IntN(2) == 0 {
			check(c.t, os.Remove(path))
		} else {
			check(c.t, os.WriteFile(path, damaged, 0o600))
		}
		c.nodes[i].reset()
		c.wait(3*time.Second + seconds(r, 8))
		c.over()
		check(c.t, c.nodes[i].setAuthorities(c.authority))
	}},
}

// To the cloud-config. No request may notice.
var fileHarms = []harm{
	{"cloud-config broken", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		text := c.text(i)
		broken := []string{
			"[Global\nauth-url",
			"",
			string(bytes.Repeat([]byte{0}, 300)),
			text + "\nrevalidate-interval = \"soon\"\n",
			"[KeyManager]\nkey-container = \"no-such-thing\"\n",
		}[r.IntN(5)]
		c.refuses(i, func() { check(c.t, proc.WriteWhole(c.sidecars[i].Config, []byte(broken))) })
		c.configure(i)
	}},
	{"cloud-config with a wrong secret, and with another host", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		n := c.nodes[i]
		good := n.bench.Cloud
		var err error
		n.bench.Cloud, err = good.With(openstack.Credential{ID: strings.ReplaceAll(sidecar.UUID(), "-", ""), Secret: "guessed"})
		check(c.t, err)
		c.refuses(i, func() { c.configure(i) })
		n.bench.Cloud = good
		settings := n.settings
		n.settings.Endpoint = "https://127.0.0.1:1"
		c.refuses(i, func() { c.configure(i) })
		n.settings = settings
		c.over()
		c.configure(i)
	}},
	{"cloud-config half-written", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		text := c.text(i)
		for range 3 {
			check(c.t, os.WriteFile(c.sidecars[i].Config, []byte(text[:r.IntN(len(text))]), 0o600))
			c.wait(seconds(r, 4))
		}
		c.over()
		check(c.t, os.WriteFile(c.sidecars[i].Config, []byte(text), 0o600))
	}},
	{"cloud-config changed", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		good := c.nodes[i].settings
		c.nodes[i].settings.Revalidate += time.Duration(1+r.IntN(5)) * time.Second
		c.applies(i)
		c.nodes[i].settings = good
		c.applies(i)
	}},
	{"keys named in the file instead of the container, and back", func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		good := c.nodes[i].settings
		c.nodes[i].settings.Container, c.nodes[i].settings.Write = "", c.writeKey()
		c.applies(i)
		c.wait(seconds(r, 5))
		c.nodes[i].settings = good
		c.applies(i)
	}},
}

// newCredential is in the settings of every node from now on, not in their files. It returns the id
// of the one before.
func (c *campaign) newCredential() (earlier string) {
	c.t.Helper()
	credential, err := c.container.NewCredential(c.soon(time.Minute))
	check(c.t, err)
	earlier = c.container.CredentialID()
	c.container.Cloud, err = c.container.With(credential)
	check(c.t, err)
	for _, n := range c.nodes {
		n.bench.Cloud, err = n.bench.Cloud.With(credential)
		check(c.t, err)
	}
	c.learnsSecrets()
	return earlier
}

func (c *campaign) newAuthority() *openstack.Authority {
	c.t.Helper()
	a, err := openstack.NewAuthority(fmt.Sprintf("campaign %d", time.Now().UnixNano()))
	check(c.t, err)
	return a
}

// trust makes the cloud and every node trust these.
func (c *campaign) trust(authorities ...*openstack.Authority) {
	c.t.Helper()
	check(c.t, c.container.Trust(authorities...))
	for _, n := range c.nodes {
		check(c.t, n.setAuthorities(authorities...))
	}
}

func (c *campaign) certify(ends time.Time) {
	c.t.Helper()
	check(c.t, c.container.Certify(c.soon(time.Minute), c.authority, ends))
}

// text of the cloud-config that a node should have.
func (c *campaign) text(i int) string { return c.nodes[i].bench.CloudConfig(c.nodes[i].settings) }

// refuses waits until a sidecar has said that it does not take up what is being written.
func (c *campaign) refuses(i int, write func()) {
	c.t.Helper()
	s := c.sidecars[i]
	before := s.LogCount("configuration not reloaded")
	write()
	eventually(c.t, s.Name+" refuses the cloud-config", time.Minute, func() bool {
		return s.LogCount("configuration not reloaded") > before
	})
}

// applies writes the settings that a node should have, and waits until its sidecar says that its
// last reload went well, which is one after the write.
func (c *campaign) applies(i int) {
	c.t.Helper()
	before, err := c.sidecars[i].Status(c.soon(time.Minute))
	check(c.t, err)
	c.configure(i)
	eventually(c.t, c.sidecars[i].Name+" takes the cloud-config up", time.Minute, func() bool {
		status, err := c.sidecars[i].Status(c.t.Context())
		return err == nil && status.Configuration.Reloads.Good() > before.Configuration.Reloads.Good() &&
			status.Configuration.Good()
	})
}
