package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsservice "k8s.io/kms/pkg/service"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/sidecar"
	"barbican-kms/tests/kubernetes/stored"
)

// Every start of kube-apiserver, every reload of its config and every new key leaves one more seed
// in etcd, until the storage is migrated. This is a cluster after a thousand of them.
//
// It measures latency, so nothing runs beside it.
func TestAColdStartDecryptsAThousandSeeds(t *testing.T) {
	const seeds = 1000
	w := newWorld(t, "seeds")
	key := w.newKey()
	c := w.sidecar("sidecar", sidecar.Settings{Write: key.ID})
	a := w.newAPIServer(cluster.Options{Name: "apiserver"}, kms(c))

	began := time.Now()
	w.start(a)
	few := time.Since(began)
	check(t, a.CreateNamespace(w.soon(time.Minute), namespace))
	stop(t, a.Process)

	service, err := kmsv2.NewGRPCService(t.Context(), c.Endpoint(), "seeds", 10*time.Second)
	check(t, err)
	began = time.Now()
	for i := range seeds {
		name := fmt.Sprintf("seed-%d", i)
		check(t, w.Etcd.Put(t.Context(), a.SecretKey(namespace, name), sealedSecret(t, service, a, name)))
	}
	report.note(t, "Encrypt calls a second, one after the other, etcd writes included", int(seeds/time.Since(began).Seconds()))

	began = time.Now()
	w.start(a)
	many := time.Since(began)
	list, err := a.ListSecrets(w.soon(time.Minute), namespace)
	check(t, err)
	if len(list) != seeds {
		t.Errorf("%d Secrets of %d", len(list), seeds)
	}
	for _, s := range list {
		if string(s.Data["value"]) != s.Metadata.Name {
			t.Fatalf("%s reads %q", s.Metadata.Name, s.Data["value"])
		}
	}
	// Kubernetes asks for less than 10 ms.
	if n := w.meanLatency(a, "Decrypt", 10*time.Millisecond); n < seeds {
		t.Errorf("%v calls of Decrypt for %d seeds: the API server did not start cold", n, seeds)
	}
	report.note(t, "ready without old seeds", few)
	report.note(t, "ready with 1000 old seeds", many)
	w.noErrors(a)
}

// sealedSecret is what a kube-apiserver that has just started would store: it asks the plugin for a
// seed of its own.
func sealedSecret(t *testing.T, service kmsservice.Service, a *cluster.APIServer, name string) []byte {
	t.Helper()
	clear, err := json.Marshal(cluster.Secret{
		APIVersion: "v1", Kind: "Secret",
		Metadata: cluster.Metadata{Name: name, Namespace: namespace, UID: sidecar.UUID()},
		Data:     map[string][]byte{"value": []byte(name)},
	})
	check(t, err)
	payload, object, _, err := kmsv2.GenerateTransformer(t.Context(), "uid-"+name, service, true)
	check(t, err)
	data, err := payload.TransformToStorage(context.Background(), clear, value.DefaultContext(a.SecretKey(namespace, name)))
	check(t, err)
	o := stored.Object{
		Data: data, KeyID: object.KeyID, Seed: object.EncryptedDEKSource,
		Annotations: object.Annotations, SeedType: stored.HKDFSeed,
	}
	return append([]byte(stored.Prefix(provider)), o.Marshal()...)
}
