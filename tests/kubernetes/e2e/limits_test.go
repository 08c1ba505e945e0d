package e2e

import (
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/sidecar"
)

// The scenario that the KMS v2 enhancement (KEP-3299) asks a plugin's author to try: a key service
// 100 ms away that limits how often it may be asked. No call of kube-apiserver may wait for it.
func TestABarbicanFarAwayWithARateLimitDelaysNoCall(t *testing.T) {
	t.Parallel()
	needsCloud(t)
	w := newWorld(t, "limits")
	const delay = 100 * time.Millisecond
	front, err := bench.Cloud.Behind(openstack.Limits{Delay: delay, Every: 700 * time.Millisecond, Burst: 2})
	check(t, err)
	t.Cleanup(front.Close)
	w.bench = &sidecar.Bench{Bin: bench.Bin, Cloud: front.Cloud}

	const revalidate = 10 * time.Second
	var ring []sidecar.Key
	var others []string
	for range 8 {
		key := w.newKey()
		ring = append(ring, key)
		others = append(others, key.ID)
	}
	settings := sidecar.Settings{Write: ring[0].ID, Decrypt: others[1:], Revalidate: revalidate}
	began := time.Now()
	c := w.sidecar("sidecar", settings)
	w.holds(c, ring, ring...)
	report.note(t, "ring of 8 keys complete after", time.Since(began))
	a := w.newAPIServer(cluster.Options{Name: "apiserver"}, kms(c))
	w.start(a)
	w.kubelet(a)
	w.create(a, "old", "hunter2")
	tr := w.traffic(a)

	// Each key is confirmed again and again, whatever the limit says.
	given := front.Payloads()
	began = time.Now()
	eventually(t, "three more confirmations of each key", 5*time.Minute, func() bool {
		return front.Payloads() >= given+3*len(ring)
	})
	report.note(t, "three confirmations of 8 keys took", time.Since(began))

	// So is a rotation possible.
	settings.Write, settings.Decrypt = ring[1].ID, append(others[2:], ring[0].ID)
	began = time.Now()
	check(t, c.Configure(settings))
	eventually(t, "new Secrets have the new key", 2*time.Minute, func() bool {
		w.create(a, "probe-"+sidecar.UUID(), "hunter2")
		ids := w.keyIDs(a)
		return ids[ring[1].ID] > 0
	})
	report.note(t, "new key in use after", time.Since(began))
	w.noErrors(a)
	w.meanLatency(a, "Encrypt", delay)
	tr.without(a, func() { w.restart(a) })
	w.reads(a, "old", "hunter2")
	tr.end()
	w.noErrors(a)
	w.meanLatency(a, "Encrypt", delay)
	w.meanLatency(a, "Decrypt", delay)

	report.note(t, "requests for keys over the limit", front.Refused())
	if front.Refused() == 0 {
		t.Error("the limit was never reached: it proves nothing")
	}
}

// meanLatency fails the test when the calls of a method take as long as limit on average: each of
// them then waited for something that far away. It returns how many calls there were.
func (w *world) meanLatency(a *cluster.APIServer, method string, limit time.Duration) (n float64) {
	w.t.Helper()
	samples, err := a.Metrics(w.soon(time.Minute))
	check(w.t, err)
	labels := []string{"provider_name", provider, "method_name", "/v2.KeyManagementService/" + method}
	n = cluster.Sum(samples, cluster.Calls, labels...)
	if n == 0 {
		w.t.Errorf("no call of %s", method)
		return 0
	}
	mean := time.Duration(cluster.Sum(samples, cluster.CallSeconds, labels...) / n * float64(time.Second))
	if mean >= limit {
		w.t.Errorf("%s takes %s on average, %s are allowed", method, mean, limit)
	}
	report.note(w.t, "calls of "+method, n)
	report.note(w.t, "mean latency of "+method, mean.Round(10*time.Microsecond).String()+" ")
	return n
}
