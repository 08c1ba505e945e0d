package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/openstack"
)

const (
	envCampaign = "KUBERNETES_CAMPAIGN"  // how long
	envSeed     = "KUBERNETES_SEED"      // what the harm is drawn from
	envFrom     = "KUBERNETES_FROM"      // the number of the first harm, to replay what failed
	envOnly     = "KUBERNETES_HARM"      // the names of the only kinds that are done
	envOther    = "BARBICAN_KMS_OTHER"   // another build of the program
	confirmed   = 2 * time.Minute        // the most that a sidecar may take to be well again
	warmUp      = 90 * time.Second       // before the sizes of the programs count
	tenth       = 100 * time.Millisecond // what times are rounded to
)

// harm is one thing that is done to a control plane and undone.
type harm struct {
	name string
	do   func(*campaign, *rand.Rand)
}

// campaign is a control plane to which harm is done.
type campaign struct {
	*plane
	nodes     []*node
	authority *openstack.Authority

	seed    uint64
	began   time.Time
	n       int       // of the harm that is being done
	minute  float64   // when it began
	undone  time.Time // when the harm was over
	kind    string
	done    int
	took    map[string][]time.Duration // until all was well again, by kind
	skipped map[string]string
	sizes   []sizes
	secrets map[string][]byte // that no log may hold, by what they are
	pager   *pager            // nil without Prometheus
}

// One harm after the other for as long as the environment says, each kind once before any comes
// again, under reads and writes through three API servers and calls to their sidecars.
func TestACampaignOfHarmFailsNoRequest(t *testing.T) {
	needsCloud(t)
	if os.Getenv(envCampaign) == "" {
		t.Skip("scripts/e2e --campaign DURATION")
	}
	lasts, err := time.ParseDuration(os.Getenv(envCampaign))
	check(t, err)
	seed, err := strconv.ParseUint(os.Getenv(envSeed), 10, 64)
	check(t, err)
	first, _ := strconv.Atoi(os.Getenv(envFrom))
	only, err := regexp.Compile(os.Getenv(envOnly))
	check(t, err)
	c := newCampaign(t, seed)
	harms := c.harms()
	c.began = time.Now()
	defer c.table()
	defer c.sayWhoEndsIt()()

	for n := 0; time.Since(c.began) < lasts; n++ {
		h := harms[deck(seed, n/len(harms), len(harms))[n%len(harms)]]
		if n < first || !only.MatchString(h.name) {
			continue
		}
		// Each has a source of its own: it is the same whatever came before.
		c.does(n, h, rand.New(rand.NewPCG(seed, uint64(n))))
		if t.Failed() || c.traffic.failed() {
			break
		}
	}
	c.endsPager()
	c.traffic.end()
	c.staysSmall()
	c.restartAll()
	for _, a := range c.servers {
		c.traffic.readable(a)
	}
	c.keepsSecrets()
}

// sayWhoEndsIt tells a campaign that somebody ends from one that ends by itself.
func (c *campaign) sayWhoEndsIt() (end func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		if s, ended := <-signals; ended {
			c.say("ended from outside by %s, at %d: %s", s, c.n, c.kind)
			c.say("until then: %s", c.traffic.summary())
			os.Exit(1)
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}

// deck is the order of the kinds in one round.
func deck(seed uint64, round, kinds int) []int {
	return rand.New(rand.NewPCG(seed, 1<<32+uint64(round))).Perm(kinds)
}

// does one harm, and waits until all is well.
func (c *campaign) does(n int, h harm, r *rand.Rand) {
	at := time.Now()
	c.n, c.kind, c.minute, c.undone = n, h.name, at.Sub(c.began).Minutes(), time.Time{}
	c.say("%d: %s", n, h.name)
	c.pager.begins(h.name, at)
	h.do(c, r)
	if c.skipped[h.name] != "" {
		c.say("%d: left out: %s", n, c.skipped[h.name])
		return
	}
	c.over()
	c.whole()
	again := time.Since(c.undone)
	c.took[h.name] = append(c.took[h.name], again)
	c.done++
	c.grown()
	c.say("%d: %s; harm %s, well again after %s; %s; %s", n, h.name,
		c.undone.Sub(at).Round(tenth), again.Round(tenth), c.traffic.summary(), c.sizes[len(c.sizes)-1])
	c.pagesRightly()
}

func (c *campaign) say(format string, args ...any) {
	fmt.Printf("campaign, seed %d, minute %.1f: %s\n", c.seed, time.Since(c.began).Minutes(), fmt.Sprintf(format, args...))
}

// over says that the harm ends now: what follows is recovery.
func (c *campaign) over() {
	if c.undone.IsZero() {
		c.undone = time.Now()
	}
}

// leaveOut says why a kind cannot be done here.
func (c *campaign) leaveOut(why string) { c.skipped[c.kind] = why }

// whole waits until every API server is ready, and every sidecar holds the write key and has had it
// confirmed since the harm was over.
func (c *campaign) whole() {
	c.t.Helper()
	for i, a := range c.servers {
		c.ready(a)
		c.confirms(i)
	}
}

// confirms waits until a sidecar says that nothing is wrong.
func (c *campaign) confirms(i int) {
	c.t.Helper()
	var last string
	deadline := time.Now().Add(confirmed)
	for {
		status, err := c.sidecars[i].Status(c.t.Context())
		last = fmt.Sprintf("%+v, %v", status, err)
		well := err == nil && status.Ready && status.Ring.Problem == "" && status.Configuration.Good() && len(status.Keys) > 0
		for _, key := range status.Keys {
			if key.SecretGone && key.ID != status.WriteKeyID {
				continue
			}
			// The status counts whole seconds.
			well = well && key.Held && key.Problem == "" && key.ConfirmedSeconds != nil &&
				time.Duration(*key.ConfirmedSeconds)*time.Second <= time.Since(c.undone)
		}
		if well {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is not well %s after the harm: %s", c.sidecars[i].Name, confirmed, last)
		}
		c.wait(tenth)
	}
}

// table prints what was done, what became of it, and where it failed.
func (c *campaign) table() {
	var out strings.Builder
	out.WriteString("| harm | times | well again, p50 | p99 |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(c.took)) {
		all := c.took[name]
		slices.Sort(all)
		fmt.Fprintf(&out, "| %s | %d | %.1f s | %.1f s |\n", name, len(all), all[len(all)/2].Seconds(), all[len(all)*99/100].Seconds())
	}
	for _, name := range slices.Sorted(maps.Keys(c.skipped)) {
		fmt.Fprintf(&out, "| %s | left out: %s | | |\n", name, c.skipped[name])
	}
	fmt.Fprintf(&out, "\n| requests | |\n|---|---|\n%s", c.traffic.rows())
	out.WriteString(c.pager.rows())
	for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		fmt.Printf("campaign, %s\n", line)
	}
	c.say("%d times harm of %d kinds", c.done, len(c.took))
	if c.t.Failed() || c.traffic.failed() {
		c.say("FAILED with seed %d in minute %.1f, at %d: %s; again: --seed %d --from %d", c.seed, c.minute, c.n, c.kind, c.seed, c.n)
		c.traffic.firstFailures(func(failure string) { c.say("failed: %s", failure) })
	}
}
