package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/sidecar"
)

// To the keys. No request may notice.
var keyHarms = []harm{
	{"rotation by the container", func(c *campaign, _ *rand.Rand) { c.rotate(undisturbed) }},
	{"rotation by the container, Barbican closed meanwhile", func(c *campaign, r *rand.Rand) {
		c.rotate(func(rotation *rotation) {
			rotation.says("staged key")
			c.without(openstack.Barbican, seconds(r, 10))
		})
	}},
	{"rotation by the container, a sidecar and an API server killed meanwhile", func(c *campaign, r *rand.Rand) {
		i, a := r.IntN(undying), c.servers[r.IntN(3)]
		c.rotate(func(rotation *rotation) {
			rotation.says("staged key")
			end := c.excuse(i)
			c.sidecars[i].Kill()
			c.serve(c.sidecars[i])
			end()
			rotation.says("until every node writes")
			c.traffic.kill(a, func() { c.start(a) })
		})
	}},
	{"rotation by the container, its tool killed and run again", func(c *campaign, r *rand.Rand) {
		before := c.writeKey()
		steps := []string{"staged key", activated, "until every node writes", "migrating the storage"}
		rotation := c.operator.begin(quickly...)
		rotation.says(steps[r.IntN(len(steps))])
		rotation.Kill()
		c.operator.begin(quickly...).done()
		c.onlyNewKey(before)
		c.learnsSecrets()
	}},
	{"rotation by the files", func(c *campaign, _ *rand.Rand) { c.rotateByFile() }},
	{"only key deleted in Barbican, and a rotation", func(c *campaign, _ *rand.Rand) {
		c.deletesKey()
		c.over()
		c.rotate(undisturbed)
	}},
	{"only key deleted in Barbican, and Barbican restored", func(c *campaign, _ *rand.Rand) {
		check(c.t, c.container.Backup(c.soon(time.Minute)))
		c.deletesKey()
		check(c.t, c.container.Restore(c.soon(time.Minute)))
	}},
}

// rotate by the tool, to the retirement of the old key.
func (c *campaign) rotate(disturb func(*rotation)) {
	c.t.Helper()
	c.rotated(quickly, disturb)
	c.learnsSecrets()
}

func undisturbed(*rotation) {}

// rotateByFile does what `rotate` prints: the new key is read everywhere, then written everywhere,
// everything is rewritten, and the container takes over again.
func (c *campaign) rotateByFile() {
	c.t.Helper()
	before := c.writeKey()
	key := c.newKey()
	c.secrets["key "+key.ID] = key.Bytes
	check(c.t, c.container.Admit(c.soon(time.Minute), key.ID))
	everywhere := func(s sidecar.Settings) {
		for i := range c.nodes {
			s.Revalidate, s.Endpoint = c.nodes[i].settings.Revalidate, c.nodes[i].settings.Endpoint
			check(c.t, c.sidecars[i].Configure(s))
		}
	}
	everywhere(sidecar.Settings{Write: before, Decrypt: []string{key.ID}})
	for i := range c.nodes {
		c.holds(c.sidecars[i], []sidecar.Key{key}, key)
	}
	everywhere(sidecar.Settings{Write: key.ID, Decrypt: []string{before}})
	for i, a := range c.servers {
		n := 0
		eventually(c.t, a.Name+" writes with the new key", 2*time.Minute, func() bool {
			n++
			name := fmt.Sprintf("probe-%d-%s-%d", i, key.ID[:8], n)
			c.create(a, name, "hunter2")
			defer func() { _ = a.DeleteSecret(c.t.Context(), namespace, name) }()
			return c.object(a, name).KeyID == key.ID
		})
	}
	c.migrate(c.servers[0])
	check(c.t, c.container.Replace(c.soon(time.Minute), before, key.ID))
	for i := range c.nodes {
		c.applies(i)
	}
	for _, s := range c.sidecars {
		eventually(c.t, s.Name+" has only the new key", time.Minute, func() bool {
			status, err := s.Status(c.t.Context())
			return err == nil && status.WriteKeyID == key.ID && !slices.Contains(status.IDs(), before)
		})
	}
	c.onlyNewKey(before)
}
