package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
	"barbican-kms/tests/kubernetes/sidecar"
)

// Harm that lasts until the alert fires that is there for it, on the nodes that it is done to.
var pagedHarms = []harm{
	{"sidecar away, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		i := r.IntN(undying)
		defer c.excuse(i)()
		stop(c.t, c.sidecars[i].Process)
		c.paged("BarbicanKmsDown", i)
		c.over()
		c.serve(c.sidecars[i])
	})},
	{"sidecar started without Barbican, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		i := r.IntN(undying)
		defer c.excuse(i)()
		check(c.t, c.nodes[i].weather(openstack.Weather{Refuse: true}))
		c.sidecars[i].Kill()
		check(c.t, c.sidecars[i].Start())
		c.paged("BarbicanKmsNotReady", i)
		c.paged("BarbicanKmsCallsFail", i)
		c.paged("BarbicanKmsContainerNotFollowed", i)
		c.over()
		check(c.t, c.nodes[i].weather(openstack.Weather{}))
		c.hasKey(c.sidecars[i])
	})},
	{"sidecar restarts in a row, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		i := r.IntN(undying)
		defer c.excuse(i)()
		for range 3 {
			c.sidecars[i].Kill()
			c.serve(c.sidecars[i])
			// Prometheus asks once a second, and must see each of them.
			c.wait(3 * time.Second)
		}
		c.paged("BarbicanKmsRestarts", i)
	})},
	{"cloud-config broken, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		c.refuses(i, func() { check(c.t, proc.WriteWhole(c.sidecars[i].Config, []byte("[Global\n"))) })
		c.paged("BarbicanKmsReloadFailed", i)
		c.over()
		c.configure(i)
	})},
	{"audit log without room, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		if os.Geteuid() != 0 {
			c.leaveOut("needs root to mount a small disk")
			return
		}
		i := r.IntN(3)
		filler := filepath.Join(c.nodes[i].home, "filler")
		if os.WriteFile(filler, make([]byte, 2<<20), 0o600) == nil {
			c.t.Errorf("%s is not full", filler)
		}
		c.paged("BarbicanKmsAuditDropped", i)
		c.over()
		check(c.t, os.Remove(filler))
	})},
	{"calls with unknown and malformed key ids, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		service := c.direct(c.sidecars[i])
		for id, want := range map[string]codes.Code{sidecar.UUID(): codes.FailedPrecondition, "1": codes.InvalidArgument} {
			request := sealedWith(c.t, sidecar.Key{ID: sidecar.UUID(), Bytes: make([]byte, 32)})
			request.KeyID = id
			if _, err := service.Decrypt(c.soon(time.Minute), asker, request); status.Code(err) != want {
				c.t.Errorf("%s answers a Decrypt of %s with %v", c.sidecars[i].Name, id, err)
			}
		}
		c.paged("BarbicanKmsUnknownKeyId", i)
		c.paged("BarbicanKmsDecryptRefused malformed_key_id", i)
	})},
	{"credential deleted, until somebody is paged", paging(func(c *campaign, _ *rand.Rand) {
		earlier := c.newCredential()
		check(c.t, c.container.DeleteCredential(c.soon(time.Minute), earlier))
		c.paged("BarbicanKmsKeyRefused", everyNode...)
		c.paged("BarbicanKmsContainerNotFollowed", everyNode...)
		c.over()
		for i := range c.nodes {
			c.configure(i)
		}
	})},
	{"credential that ends soon, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		good := c.nodes[i].bench.Cloud
		credential, err := c.container.ShortCredential(c.soon(time.Minute), 5*24*time.Hour)
		check(c.t, err)
		c.nodes[i].bench.Cloud, err = good.With(credential)
		check(c.t, err)
		c.applies(i)
		c.paged("BarbicanKmsCredentialEnds", i)
		c.paged("BarbicanKmsCredentialEndsSoon", i)
		c.over()
		c.nodes[i].bench.Cloud = good
		c.applies(i)
		check(c.t, c.container.DeleteCredential(c.soon(time.Minute), credential.ID))
	})},
	{"container denied, until somebody is paged", paging(func(c *campaign, _ *rand.Rand) {
		check(c.t, c.container.Deny(c.soon(time.Minute)))
		c.paged("BarbicanKmsContainerNotFollowed", everyNode...)
		c.over()
		check(c.t, c.container.Allow(c.soon(time.Minute)))
	})},
	{"Barbican closed, until somebody is paged", paging(func(c *campaign, _ *rand.Rand) {
		check(c.t, c.container.Close(c.soon(time.Minute), openstack.Barbican))
		c.paged("BarbicanKmsContainerNotFollowed", everyNode...)
		c.paged("BarbicanKmsKeyUnconfirmed", everyNode...)
		check(c.t, c.container.Open(c.soon(time.Minute), openstack.Barbican))
	})},
	{"key about to be wiped, until somebody is paged", paging(func(c *campaign, r *rand.Rand) {
		i := r.IntN(3)
		n := c.nodes[i]
		good := n.settings
		n.settings.MaxCacheAge = 80 * time.Second
		c.applies(i)
		check(c.t, n.weather(openstack.Weather{Refuse: true}))
		c.paged("BarbicanKmsContainerNotFollowed", i)
		c.paged("BarbicanKmsKeyWipedSoon", i)
		c.over()
		check(c.t, n.weather(openstack.Weather{}))
		n.settings = good
		c.applies(i)
	})},
	{"only key deleted in Barbican, until somebody is paged, and Barbican restored", paging(func(c *campaign, _ *rand.Rand) {
		check(c.t, c.container.Backup(c.soon(time.Minute)))
		c.deletesKey()
		c.paged("BarbicanKmsKeySecretGone", everyNode...)
		c.over()
		check(c.t, c.container.Restore(c.soon(time.Minute)))
	})},
	{"key with other bytes in Barbican, until somebody is paged", paging(func(c *campaign, _ *rand.Rand) {
		other := c.newKey()
		check(c.t, c.container.Backup(c.soon(time.Minute)))
		check(c.t, c.container.Alter(c.soon(time.Minute), c.writeKey(), other.ID))
		c.paged("BarbicanKmsKeyAltered", everyNode...)
		c.over()
		check(c.t, c.container.Restore(c.soon(time.Minute)))
	})},
	{"key staged that no node may read, until somebody is paged", paging(func(c *campaign, _ *rand.Rand) {
		key, at := c.newKey(), time.Now().Add(time.Hour)
		check(c.t, c.container.DenySecret(c.soon(time.Minute), key.ID))
		check(c.t, c.container.Stage(c.soon(time.Minute), key.ID, at))
		c.paged("BarbicanKmsActivationNotReady", everyNode...)
		c.paged("BarbicanKmsKeyMissing", everyNode...)
		c.paged("BarbicanKmsKeyRefused", everyNode...)
		c.over()
		check(c.t, c.container.Unstage(c.soon(time.Minute), key.ID, at))
	})},
}

// everyNode is what is done in the cloud done to.
var everyNode = []int{0, 1, 2}

// paging is a kind that has no end without Prometheus.
func paging(do func(*campaign, *rand.Rand)) func(*campaign, *rand.Rand) {
	return func(c *campaign, r *rand.Rand) {
		if c.pager == nil {
			c.leaveOut("needs Prometheus")
			return
		}
		do(c, r)
	}
}
