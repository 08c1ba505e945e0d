package e2e

import (
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/sidecar"
)

// Ten minutes by the clock that lets the seed for writes expire, which is the only one that an
// outage could run out: the seed lives three minutes after the last good answer of the sidecar.
func TestTenMinutesWithoutBarbicanAndKeystoneFailNoReadAndNoWrite(t *testing.T) {
	t.Parallel()
	outage(t, "outage", func(w *world, a *cluster.APIServer) {
		for ahead := 150 * time.Second; ahead <= 10*time.Minute; ahead += 150 * time.Second {
			// The next step may come only when the seed's life was extended at the present time.
			before := w.goodAnswers(a)
			eventually(t, "kube-apiserver asks the sidecar again", 2*time.Minute, func() bool { return w.goodAnswers(a) > before })
			check(t, a.Ahead(ahead))
		}
	})
}

func TestTenRealMinutesWithoutBarbicanAndKeystoneFailNoReadAndNoWrite(t *testing.T) {
	long(t)
	t.Parallel()
	outage(t, "outage-long", func(w *world, a *cluster.APIServer) {
		before := time.Now()
		eventually(t, "ten minutes over", 11*time.Minute, func() bool { return time.Since(before) > 10*time.Minute })
	})
}

func outage(t *testing.T, name string, tenMinutes func(*world, *cluster.APIServer)) {
	needsCloud(t)
	w := newWorld(t, name)
	cloud := w.ownCloud()
	key := w.newKey()
	c := w.sidecar("sidecar", sidecar.Settings{Write: key.ID, Revalidate: 10 * time.Second})
	a := w.newAPIServer(cluster.Options{Name: "apiserver", Reload: true, Provider: provider}, kms(c))
	w.start(a)
	w.kubelet(a)
	w.create(a, "old", "hunter2")
	tr := w.traffic(a)

	for _, server := range []string{openstack.Barbican, openstack.Keystone} {
		check(t, cloud.Close(w.soon(time.Minute), server))
	}
	tenMinutes(w, a)
	w.noErrors(a)

	// A cold API server has only the sidecar to ask.
	tr.without(a, func() { w.restart(a) })
	w.reads(a, "old", "hunter2")

	// So has one that takes up a new encryption config.
	seed := string(w.object(a, "old").Seed)
	w.reload(a, kms(c), cluster.Identity)
	w.create(a, "after-reload", "hunter2")
	if string(w.object(a, "after-reload").Seed) == seed {
		t.Error("the reload brought no new seed: it did not ask the sidecar")
	}
	w.reads(a, "old", "hunter2")
	tr.end()
	w.noErrors(a)

	for _, server := range []string{openstack.Keystone, openstack.Barbican} {
		check(t, cloud.Open(w.soon(time.Minute), server))
	}
	w.reads(a, "old", "hunter2")
}

// reload has a running API server take up these providers.
func (w *world) reload(a *cluster.APIServer, providers ...cluster.Provider) {
	w.t.Helper()
	reloads := func() float64 {
		samples, err := a.Metrics(w.soon(time.Minute))
		check(w.t, err)
		return cluster.Sum(samples, "apiserver_encryption_config_controller_automatic_reloads_total", "status", "success")
	}
	before, began := reloads(), time.Now()
	check(w.t, a.SetEncryption(providers...))
	eventually(w.t, "kube-apiserver reloads its encryption config", 3*time.Minute, func() bool { return reloads() > before })
	report.note(w.t, "reload of the encryption config noticed after", time.Since(began))
}

// goodAnswers counts the answers to Status.
func (w *world) goodAnswers(a *cluster.APIServer) float64 {
	w.t.Helper()
	samples, err := a.Metrics(w.soon(time.Minute))
	check(w.t, err)
	return cluster.Sum(samples, cluster.Calls,
		"provider_name", provider, "method_name", "/v2.KeyManagementService/Status", "grpc_status_code", "OK")
}
