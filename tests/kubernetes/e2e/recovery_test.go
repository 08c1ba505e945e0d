package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/sidecar"
)

// How many outages of each kind are measured; the README's figures say of how many they are.
const envOutages = "KUBERNETES_OUTAGES"

// What may pass between the end of an outage and the first Secret, and a green /readyz: kube-apiserver
// asks its plugin every 3 s while that is unhealthy.
const (
	readableMedian = 4 * time.Second
	readableWorst  = 6 * time.Second
	greenMedian    = 8 * time.Second
	// A busy machine makes kube-apiserver miss a turn or two of its checks.
	greenWorst = 16 * time.Second
	// Of a run with one outage of each kind, beside other tests.
	slack = 2
)

// Sidecar and kube-apiserver start while nobody answers; how soon after the end of that everything
// works.
func TestSecretsAreReadableSoonAfterAnOutageAtStart(t *testing.T) {
	t.Parallel()
	needsCloud(t)
	outages := 1
	if text := os.Getenv(envOutages); text != "" {
		var err error
		outages, err = strconv.Atoi(text)
		check(t, err)
	}
	for _, kind := range []openstack.Outage{openstack.Refused, openstack.Silent, openstack.Empty, openstack.Unnamed} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			soonAfterOutages(t, kind, outages)
		})
	}
}

func soonAfterOutages(t *testing.T, kind openstack.Outage, outages int) {
	if kind == openstack.Unnamed && os.Geteuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	w := newWorld(t, "outage-"+strings.ReplaceAll(string(kind), " ", "-"))
	gate, err := bench.Cloud.Gate()
	check(t, err)
	t.Cleanup(gate.Close)
	var by []string
	if kind == openstack.Unnamed {
		by, err = gate.UseName(w.dir)
		check(t, err)
	}
	w.bench = &sidecar.Bench{Bin: bench.Bin, Cloud: gate.Cloud, By: by}
	key := w.newKey()
	w.seedSecret(key)

	var secrets, readyz []time.Duration
	lastOf := map[string]int{}
	for n := range outages {
		check(t, gate.Shut(kind))
		c := w.newSidecar(fmt.Sprintf("s%d", n), sidecar.Settings{Write: key.ID})
		c.MustStart(t)
		a := w.newAPIServer(cluster.Options{Name: fmt.Sprintf("apiserver-%d", n), Prefix: "/late"}, kms(c))
		m := w.observe(a)
		timer := time.AfterFunc(30*time.Second, func() {
			m.came()
			if err := gate.Open(); err != nil {
				t.Error(err)
			}
		})
		defer timer.Stop()
		m.untilWhole(3 * time.Minute)
		secrets = append(secrets, m.after("read of an old Secret"))
		readyz = append(readyz, m.after("readyz"))
		lastOf[m.last["readyz"]]++
		stop(t, a.Process)
		stop(t, c.Process)
	}
	factor := time.Duration(1)
	if outages == 1 {
		factor = slack
	}
	within(t, "first Secret", secrets, readableMedian*factor, readableWorst*factor)
	within(t, "readyz", readyz, greenMedian*factor, greenWorst*factor)
	report.note(t, "what readyz waited for last", lastOf)
}

// after is how long after the missing part came a check first passed.
func (m *observation) after(check string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first[check].Sub(m.cameAt)
}

// within notes the figures, and holds them against the limits.
func within(t *testing.T, what string, all []time.Duration, medianLimit, worstLimit time.Duration) {
	t.Helper()
	slices.Sort(all)
	median, worst := all[len(all)/2], all[len(all)-1]
	report.note(t, what+", all", fmt.Sprint(all))
	report.note(t, what+", median", median)
	report.note(t, what+", worst", worst)
	if median > medianLimit || worst > worstLimit {
		t.Errorf("%s after the outage: median %s, worst %s; the limits are %s and %s", what, median, worst, medianLimit, worstLimit)
	}
}
