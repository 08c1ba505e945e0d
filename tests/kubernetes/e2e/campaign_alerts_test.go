package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"barbican-kms/tests/kubernetes/alerts"
)

// envPrometheus names the program; unset: alerts are not evaluated.
const envPrometheus = "KUBERNETES_PROMETHEUS"

// faster than in reality is the time in the rules. The sidecars' revalidate-interval is as much
// shorter than by default, so that an outage of 10 s here is one of five minutes there.
const faster = 30

// late is how much later than what it tells of an alert may be: a scrape and an evaluation, on a
// machine that is busy.
const late = 5 * time.Second

// notJudged are alerts that may fire whenever they do.
var notJudged = map[string]string{
	"BarbicanKmsConfigsDiffer":          "every node has addresses and files of its own in its cloud-config",
	"BarbicanKmsSlow":                   "faster, it judges 20 s and some 200 calls, and the harm takes the processor and stops programs",
	"BarbicanKmsDecryptRefused damaged": "the campaign itself sends damaged seeds to every node; it must fire on every node",
}

// mayPage are the alerts that may fire for kinds of harm of which it depends on the details, or on
// how long the machine takes, whether they last long enough. Any other is a mistake of the rules.
var mayPage = map[string][]string{
	"sidecar killed":  {"BarbicanKmsRestarts"},
	"sidecar stopped": {"BarbicanKmsDown"},
	"sidecar exchanged for another build and back":                                 {"BarbicanKmsRestarts"},
	"sidecar killed while the network is cut":                                      {"BarbicanKmsRestarts", "BarbicanKmsNotReady"},
	"disk of socket, config and audit log full":                                    {"BarbicanKmsAuditDropped", "BarbicanKmsReloadFailed", "BarbicanKmsRestarts", "BarbicanKmsDown"},
	"inode table of socket, config and audit log full":                             {"BarbicanKmsAuditDropped", "BarbicanKmsReloadFailed", "BarbicanKmsRestarts", "BarbicanKmsDown"},
	"cloud-config broken":                                                          {"BarbicanKmsReloadFailed"},
	"cloud-config half-written":                                                    {"BarbicanKmsReloadFailed"},
	"cloud-config with a wrong secret, and with another host":                      {"BarbicanKmsReloadFailed"},
	"file of the authorities damaged":                                              {"BarbicanKmsReloadFailed"},
	"credential deleted before there is another":                                   {"BarbicanKmsKeyRefused"},
	"only key deleted in Barbican, and a rotation":                                 {"BarbicanKmsKeySecretGone", "BarbicanKmsKeyRefused"},
	"only key deleted in Barbican, and Barbican restored":                          {"BarbicanKmsKeySecretGone", "BarbicanKmsKeyRefused"},
	"only key deleted in Barbican, until somebody is paged, and Barbican restored": {"BarbicanKmsKeyRefused"},
	"rotation by the container, a sidecar and an API server killed meanwhile":      {"BarbicanKmsRestarts"},
	// Asks for the new key until it is there.
	"rotation by the files": {"BarbicanKmsUnknownKeyId"},
	// Half a minute, with what the servers take to start.
	"Barbican and Keystone killed": {"BarbicanKmsContainerNotFollowed"},
	"Barbican killed":              {"BarbicanKmsContainerNotFollowed"},
	"Keystone killed":              {"BarbicanKmsContainerNotFollowed"},
	"names unknown":                {"BarbicanKmsContainerNotFollowed"},
	"names not answered":           {"BarbicanKmsContainerNotFollowed"},
	"server of names fails":        {"BarbicanKmsContainerNotFollowed"},
	"several at once":              {"BarbicanKmsContainerNotFollowed", "BarbicanKmsDown"},
	// It starts while nobody answers.
	"sidecar killed while packets are lost": {"BarbicanKmsRestarts", "BarbicanKmsNotReady", "BarbicanKmsContainerNotFollowed"},
	"disk slow while a sidecar is killed":   {"BarbicanKmsRestarts", "BarbicanKmsNotReady", "BarbicanKmsDown", "BarbicanKmsAuditDropped"},
	// Lines for the audit log wait in memory, for as long as there is room.
	"disk slow":                              {"BarbicanKmsAuditDropped", "BarbicanKmsReloadFailed"},
	"disk hangs":                             {"BarbicanKmsAuditDropped"},
	"disk hangs after a change of the files": {"BarbicanKmsAuditDropped", "BarbicanKmsReloadFailed"},
	"disk fails":                             {"BarbicanKmsAuditDropped", "BarbicanKmsReloadFailed"},
	"disk cannot be read while a sidecar reloads": {"BarbicanKmsAuditDropped", "BarbicanKmsReloadFailed"},
}

// pager has Prometheus evaluate the shipped rules, and knows which alerts may fire.
type pager struct {
	*alerts.Prometheus
	all    []alerts.Alert
	spells []*spell
	read   time.Time // what fired before is judged
	last   map[string]time.Time
	fired  map[string]*firings
	// lost are the keys whose secret is gone, by the hash in the labels. A sidecar that holds one keeps
	// it, and pages, until it is restarted.
	lost  map[string]*spell
	wrong []string
}

// spell is a time of harm, until all is well again.
type spell struct {
	kind        string
	from, until time.Time
	// may fire, on these nodes; nil for all.
	may map[string][]string
}

// firings of an alert.
type firings struct {
	times            int
	kinds, instances map[string]bool
}

// newPager starts Prometheus. The sidecars run.
func (c *campaign) newPager() *pager {
	c.t.Helper()
	program := os.Getenv(envPrometheus)
	if program == "" {
		c.say("no Prometheus: alerts are not evaluated")
		return nil
	}
	shipped, err := os.ReadFile(filepath.Join("..", "..", "..", "static-pod", "monitoring", "rules.yaml"))
	check(c.t, err)
	rules, all, err := alerts.Faster(shipped, faster)
	check(c.t, err)
	var targets []alerts.Target
	for i, n := range c.nodes {
		targets = append(targets, alerts.Target{Instance: c.sidecars[i].Name, Address: n.metrics()})
	}
	p := &pager{all: all, last: map[string]time.Time{}, fired: map[string]*firings{}, lost: map[string]*spell{}}
	p.Prometheus, err = alerts.Start(c.dir, program, rules, targets)
	check(c.t, err)
	c.t.Cleanup(func() { stop(c.t, p.Process) })
	eventually(c.t, "Prometheus evaluates the rules", time.Minute, func() bool {
		if !p.Alive() {
			c.t.Fatalf("Prometheus has ended: %s", p.Tail())
		}
		return p.Evaluates(c.t.Context()) == nil && p.Knows(c.t.Context()) == nil
	})
	p.read = time.Now()
	return p
}

func (p *pager) begins(kind string, at time.Time) {
	if p == nil {
		return
	}
	may := map[string][]string{}
	for _, alert := range mayPage[kind] {
		may[alert] = nil
	}
	if n := len(p.spells); n > 0 && p.spells[n-1].until.IsZero() {
		// It was left out.
		p.spells[n-1].until = at
	}
	p.spells = append(p.spells, &spell{kind: kind, from: at, may: may})
}

// mayPage lets an alert fire for the harm that is being done, on these nodes.
func (c *campaign) mayPage(alert string, nodes ...int) {
	s := c.pager.spells[len(c.pager.spells)-1]
	for _, i := range nodes {
		s.may[alert] = append(s.may[alert], c.sidecars[i].Name)
	}
}

// paged waits until an alert has fired for these nodes since the harm began.
func (c *campaign) paged(alert string, nodes ...int) {
	c.t.Helper()
	c.mayPage(alert, nodes...)
	about := c.pager.about(alert)
	s := c.pager.spells[len(c.pager.spells)-1]
	// The longest that anything is compared with is half an hour.
	eventually(c.t, alert+" fires", time.Minute+30*time.Minute/faster+about.For+about.Window, func() bool {
		fired, err := c.pager.Fired(c.t.Context(), s.from)
		check(c.t, err)
		on := map[string]bool{}
		for _, f := range fired {
			on[f.Name()+f.Labels["instance"]] = true
		}
		return !slices.ContainsFunc(nodes, func(i int) bool { return !on[alert+c.sidecars[i].Name] })
	})
}

// about is what the rules say of an alert.
func (p *pager) about(alert string) alerts.Alert {
	name, _, _ := strings.Cut(alert, " ")
	for _, a := range p.all {
		if a.Name == name {
			return a
		}
	}
	panic("the rules have no " + name)
}

// pagesRightly notes the alerts that have fired and that no harm accounts for; they fail the campaign
// at its end. All is well again.
func (c *campaign) pagesRightly() {
	p := c.pager
	if p == nil {
		return
	}
	c.t.Helper()
	now := time.Now()
	p.spells[len(p.spells)-1].until = now
	fired, err := p.Fired(c.t.Context(), p.read)
	check(c.t, err)
	for _, f := range fired {
		var wrong []time.Time
		for _, at := range f.At {
			s := p.cause(f, at)
			if s == nil && notJudged[f.Name()] == "" {
				wrong = append(wrong, at)
			}
			p.counts(f, at, s)
		}
		if len(wrong) > 0 {
			text := fmt.Sprintf("%d: %s: %s fires %d times from %s to %s, and nobody need be paged: %v", c.n, c.kind, f.Name(),
				len(wrong), wrong[0].Format(time.TimeOnly), wrong[len(wrong)-1].Format(time.TimeOnly), f.Labels)
			c.say("%s", text)
			p.wrong = append(p.wrong, text)
		}
	}
	// The last evaluation may not be stored yet.
	p.read = now.Add(-late)
}

// cause is the last harm for which an alert may fire then; nil where there is none.
func (p *pager) cause(f alerts.Firing, at time.Time) *spell {
	key := f.Labels["key_id_hash"]
	if s := p.lost[key]; s != nil {
		return s
	}
	after := p.about(f.Name()).Window + late
	for _, s := range slices.Backward(p.spells) {
		nodes, may := s.may[f.Name()]
		may = may && (nodes == nil || slices.Contains(nodes, f.Labels["instance"]))
		if may && !at.Before(s.from) && (s.until.IsZero() || at.Before(s.until.Add(after))) {
			if f.Name() == "BarbicanKmsKeySecretGone" {
				p.lost[key] = s
			}
			return s
		}
	}
	return nil
}

// counts an alert once as long as it goes on.
func (p *pager) counts(f alerts.Firing, at time.Time, cause *spell) {
	series := fmt.Sprint(f.Labels)
	anew := at.Sub(p.last[series]) > late
	p.last[series] = at
	if !anew {
		return
	}
	if p.fired[f.Name()] == nil {
		p.fired[f.Name()] = &firings{kinds: map[string]bool{}, instances: map[string]bool{}}
	}
	of := p.fired[f.Name()]
	of.times++
	of.instances[f.Labels["instance"]] = true
	if cause != nil {
		of.kinds[cause.kind] = true
	} else {
		of.kinds[p.spells[len(p.spells)-1].kind] = true
	}
}

// endsPager ends Prometheus, before the sidecars are.
func (c *campaign) endsPager() {
	if c.pager == nil {
		return
	}
	c.t.Helper()
	check(c.t, c.pager.Evaluates(c.t.Context()))
	stop(c.t, c.pager.Process)
	for _, text := range c.pager.wrong {
		c.t.Errorf("%s", text)
	}
	const always = "BarbicanKmsDecryptRefused damaged"
	if of := c.pager.fired[always]; of == nil || len(of.instances) != len(c.nodes) {
		c.t.Errorf("%s has not fired on every node: %v", always, of)
	}
}

// rows of a table of what fired.
func (p *pager) rows() string {
	if p == nil {
		return "\nno Prometheus: alerts were not evaluated\n"
	}
	var out strings.Builder
	out.WriteString("\n| alert | times | at |\n|---|---|---|\n")
	silent := map[string]bool{}
	for _, a := range p.all {
		silent[a.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(p.fired)) {
		of := p.fired[name]
		delete(silent, p.about(name).Name)
		at := strings.Join(slices.Sorted(maps.Keys(of.kinds)), "; ")
		if notJudged[name] != "" {
			at = "not judged: " + notJudged[name]
		}
		fmt.Fprintf(&out, "| %s | %d | %s |\n", name, of.times, at)
	}
	fmt.Fprintf(&out, "\nalerts that had no occasion: %s\n", strings.Join(slices.Sorted(maps.Keys(silent)), ", "))
	return out.String()
}
