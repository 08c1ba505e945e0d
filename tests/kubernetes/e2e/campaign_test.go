package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
	"barbican-kms/tests/kubernetes/sidecar"
)

const (
	envCampaign = "KUBERNETES_CAMPAIGN" // how long
	envSeed     = "KUBERNETES_SEED"     // what the harm is drawn from
)

// harm is one thing that is done to a control plane and undone.
type harm struct {
	name string
	do   func(*plane, *rand.Rand)
}

var harms = []harm{
	{"a sidecar killed", func(p *plane, r *rand.Rand) {
		i := r.IntN(3)
		p.withoutRequestsTo(i, func() {
			p.sidecars[i].Kill()
			p.serve(p.sidecars[i])
		})
	}},
	{"a sidecar stopped", func(p *plane, r *rand.Rand) {
		i := r.IntN(3)
		p.withoutRequestsTo(i, func() { p.pauses(p.sidecars[i].Process, r) })
	}},
	{"an API server killed", func(p *plane, r *rand.Rand) {
		a := p.servers[r.IntN(3)]
		p.traffic.kill(a, func() { p.start(a) })
	}},
	{"an API server stopped", func(p *plane, r *rand.Rand) { p.pauses(p.servers[r.IntN(3)].Process, r) }},
	{"Barbican away", func(p *plane, r *rand.Rand) { p.without(openstack.Barbican, seconds(r, 15)) }},
	{"Keystone away", func(p *plane, r *rand.Rand) { p.without(openstack.Keystone, seconds(r, 15)) }},
	{"tokens revoked", func(p *plane, _ *rand.Rand) { check(p.t, p.container.RevokeTokens(p.soon(time.Minute))) }},
	{"a broken cloud-config", func(p *plane, r *rand.Rand) {
		c := p.sidecars[r.IntN(3)]
		before := c.LogCount("configuration not reloaded")
		check(p.t, os.WriteFile(c.Config, []byte("[Global\nauth-url"), 0o600))
		eventually(p.t, c.Name+" refuses the broken cloud-config", time.Minute, func() bool {
			return c.LogCount("configuration not reloaded") > before
		})
		check(p.t, c.Configure(p.settings()))
	}},
	{"a rotation", func(p *plane, _ *rand.Rand) {
		before := p.writeKey()
		p.operator.begin("start", "--retire-after", "0s", "--quiet", "2").done()
		p.onlyNewKey(before)
	}},
}

// One harm after the other for as long as the environment says, each drawn from the seed, under
// reads and writes through three API servers, of which none may fail.
func TestACampaignOfHarmFailsNoRequest(t *testing.T) {
	needsCloud(t)
	if os.Getenv(envCampaign) == "" {
		t.Skip("scripts/e2e --campaign DURATION")
	}
	lasts, err := time.ParseDuration(os.Getenv(envCampaign))
	check(t, err)
	seed, err := strconv.ParseUint(os.Getenv(envSeed), 10, 64)
	check(t, err)
	r := rand.New(rand.NewPCG(seed, 0))
	p := newPlane(t, "campaign")

	took := map[string][]time.Duration{}
	for began := time.Now(); time.Since(began) < lasts; {
		h := harms[r.IntN(len(harms))]
		at := time.Now()
		fmt.Printf("campaign, seed %d, minute %.1f: %s\n", seed, at.Sub(began).Minutes(), h.name)
		h.do(p, r)
		p.whole()
		took[h.name] = append(took[h.name], time.Since(at))
		if t.Failed() || p.traffic.failed() {
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(took)) {
		all := took[name]
		slices.Sort(all)
		report.note(t, name, fmt.Sprintf("%d times, whole again after %.1f s (median), %.1f s (worst)",
			len(all), all[len(all)/2].Seconds(), all[len(all)-1].Seconds()))
	}
	p.traffic.end()
	p.restartAll()
	for _, a := range p.servers {
		p.traffic.readable(a)
	}
}

// whole waits until every API server is ready and every sidecar holds the write key.
func (p *plane) whole() {
	p.t.Helper()
	for i, a := range p.servers {
		p.ready(a)
		eventually(p.t, p.sidecars[i].Name+" answers", time.Minute, func() bool {
			status, err := p.sidecars[i].Status(p.t.Context())
			return err == nil && status.WriteKeyID != ""
		})
	}
}

// withoutRequestsTo keeps the traffic away from a node that may fail meanwhile.
func (p *plane) withoutRequestsTo(i int, f func()) {
	p.traffic.without(p.servers[i], f)
}

// pauses stops a process for less than what anybody's patience is.
func (p *plane) pauses(process *proc.Process, r *rand.Rand) {
	p.t.Helper()
	check(p.t, process.Signal(syscall.SIGSTOP))
	p.wait(seconds(r, 5))
	check(p.t, process.Signal(syscall.SIGCONT))
}

func seconds(r *rand.Rand, most int) time.Duration {
	return time.Second + time.Duration(r.Int64N(int64(most)*int64(time.Second)))
}

func (p *plane) settings() sidecar.Settings {
	return sidecar.Settings{Container: p.container.ID, Revalidate: revalidate}
}
