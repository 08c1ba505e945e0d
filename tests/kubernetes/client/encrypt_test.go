//go:build !k8s131

package client

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value"
	aestransformer "k8s.io/apiserver/pkg/storage/value/encrypt/aes"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	kmsservice "k8s.io/kms/pkg/service"

	"barbican-kms/tests/kubernetes/plugin"
	"barbican-kms/tests/kubernetes/sidecar"
	"barbican-kms/tests/kubernetes/stored"
)

// T1
func TestAWriteIsStoredAsAValidEncryptedObjectUnderThePrefixOfTheProvider(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	kms := start(t, sidecar.Settings{Write: key.ID})
	api := load(t, provider{name: "t1", endpoint: kms.Endpoint()})
	api.becomesHealthy(t)

	o := parse(t, "t1", api.mustWrite(t, "/registry/secrets/default/a", "hunter2"))

	if err := kmsv2.ValidateEncryptedObject(&kmstypes.EncryptedObject{
		EncryptedData: o.Data, KeyID: o.KeyID, EncryptedDEKSource: o.Seed, Annotations: o.Annotations,
		EncryptedDEKSourceType: kmstypes.EncryptedDEKSourceType(o.SeedType),
	}); err != nil {
		t.Error(err)
	}
	if o.SeedType != stored.HKDFSeed {
		t.Errorf("the seed has type %d, not %d", o.SeedType, stored.HKDFSeed)
	}
	if o.KeyID != key.ID {
		t.Errorf("key id %q, want that of the Barbican secret, %q", o.KeyID, key.ID)
	}
	if len(o.Annotations) != 1 || len(o.Annotations[plugin.Annotation]) != 32 {
		t.Errorf("annotations %v, want one tag of 32 bytes", o.Annotations)
	}
	if bytes.Contains(o.Data, []byte("hunter2")) {
		t.Error("the value is in clear text")
	}
}

// T2, and the frozen byte format: the test opens the seed with the KEK on its own.
func TestTheStoredSeedOpensWithTheKEKAndDecryptsTheValueBoundToItsPath(t *testing.T) {
	t.Parallel()
	const path = "/registry/secrets/default/a"
	key := newKey(t)
	kms := start(t, sidecar.Settings{Write: key.ID})
	api := load(t, provider{name: "t2", endpoint: kms.Endpoint()})
	api.becomesHealthy(t)
	data := api.mustWrite(t, path, "hunter2")
	o := parse(t, "t2", data)

	seed, err := plugin.Open(key.Bytes, o.Seed)
	if err != nil {
		t.Fatal(err)
	}
	if tag, err := plugin.Tag(key.Bytes, key.ID, o.Seed); err != nil || !bytes.Equal(tag, o.Annotations[plugin.Annotation]) {
		t.Errorf("the annotation is not the tag of the stored seed (%v)", err)
	}
	service, err := kmsv2.NewGRPCService(t.Context(), kms.Endpoint(), "t2-direct", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := service.Decrypt(t.Context(), "uid", &kmsservice.DecryptRequest{
		Ciphertext: o.Seed, KeyID: o.KeyID, Annotations: o.Annotations,
	})
	if err != nil || !bytes.Equal(answer, seed) {
		t.Errorf("Decrypt of the stored seed differs from what the KEK says (%v)", err)
	}

	payload, err := aestransformer.NewHKDFExtendedNonceGCMTransformer(seed)
	if err != nil {
		t.Fatal(err)
	}
	clear, _, err := payload.TransformFromStorage(t.Context(), o.Data, value.DefaultContext(path))
	if err != nil || string(clear) != "hunter2" {
		t.Errorf("the value decrypts to %q (%v)", clear, err)
	}
	if _, _, err := api.read(t, "/registry/secrets/default/b", data); err == nil {
		t.Error("the value could be moved to another path")
	}

	if api.mustRead(t, path, data, "hunter2") {
		t.Error("what was just written is stale")
	}
	hash := kmsv2.GetHashIfNotEmpty(key.ID)
	for _, want := range []struct {
		name, label string
		n           float64
	}{
		{"to_storage", "to_storage", 1},
		// The read from the wrong path got as far as the seed.
		{"from_storage", "from_storage", 2},
	} {
		if n := metric(t, "apiserver_envelope_encryption_key_id_hash_total",
			"provider_name", "t2", "transformation_type", want.label, "key_id_hash", hash); n != want.n {
			t.Errorf("%s counted %v times, want %v", want.name, n, want.n)
		}
	}
	if n := metric(t, "apiserver_envelope_encryption_dek_source_cache_size", "provider_name", "t2"); n != 1 {
		t.Errorf("%v seeds in the cache, want 1", n)
	}
	if n := calls(t, "t2", "Decrypt"); n != 0 {
		t.Errorf("%v calls of Decrypt for a seed that was in the cache", n)
	}
}

// T3
func TestAfterAKeyChangeOldDataIsStaleUntilItIsWrittenAgainWithANewSeed(t *testing.T) {
	t.Parallel()
	const path = "/registry/secrets/default/a"
	a, b := newKey(t), newKey(t)
	kms := start(t, sidecar.Settings{Write: a.ID, Decrypt: []string{b.ID}})
	api := load(t, provider{name: "t3", endpoint: kms.Endpoint()})
	api.becomesHealthy(t)
	old := api.mustWrite(t, path, "hunter2")
	if api.mustRead(t, path, old, "hunter2") {
		t.Error("stale before the key changed")
	}

	if err := kms.Configure(sidecar.Settings{Write: b.ID, Decrypt: []string{a.ID}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writing with the new key", 45*time.Second, func() bool {
		if err := api.health(); err != nil {
			t.Fatalf("unhealthy during a rotation: %v", err)
		}
		return parse(t, "t3", api.mustWrite(t, path, "hunter2")).KeyID == b.ID
	})

	if !api.mustRead(t, path, old, "hunter2") {
		t.Error("data of the old key is not stale, so migration would leave it")
	}
	rewritten := api.mustWrite(t, path, "hunter2")
	if api.mustRead(t, path, rewritten, "hunter2") {
		t.Error("stale again after it was written with the new key")
	}
	if bytes.Equal(parse(t, "t3", old).Seed, parse(t, "t3", rewritten).Seed) {
		t.Error("the new key sealed the old seed")
	}
	if n := calls(t, "t3", "Encrypt"); n != 2 {
		t.Errorf("%v calls of Encrypt, want one for each key", n)
	}

	// An API server that starts now has neither seed in its cache.
	fresh := load(t, provider{name: "t3", endpoint: kms.Endpoint()})
	fresh.becomesHealthy(t)
	fresh.mustRead(t, path, old, "hunter2")
	fresh.mustRead(t, path, rewritten, "hunter2")
}

// T10: until 1.28 the plugin wrapped the very key of the data, which had a nonce of its own.
func TestObjectsOfTheTimeBeforeSeedsAreReadAndStale(t *testing.T) {
	t.Parallel()
	const path = "/registry/secrets/default/a"
	key := newKey(t)
	kms := start(t, sidecar.Settings{Write: key.ID})
	api := load(t, provider{name: "t10", endpoint: kms.Endpoint()})
	api.becomesHealthy(t)

	dek := make([]byte, 32)
	if _, err := rand.Read(dek); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(dek)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := aestransformer.NewGCMTransformer(block)
	if err != nil {
		t.Fatal(err)
	}
	data, err := gcm.TransformToStorage(t.Context(), []byte("hunter2"), value.DefaultContext(path))
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := plugin.Seal(key.Bytes, dek)
	if err != nil {
		t.Fatal(err)
	}
	old := stored.Object{Data: data, KeyID: key.ID, Seed: wrapped, SeedType: stored.AESGCMKey}

	if !api.mustRead(t, path, old.Bytes("t10"), "hunter2") {
		t.Error("it is not stale, so a migration would leave it as it is")
	}
	now := parse(t, "t10", api.mustWrite(t, path, "hunter2"))
	if now.SeedType != stored.HKDFSeed {
		t.Errorf("written again it has a seed of type %d, not %d", now.SeedType, stored.HKDFSeed)
	}
	if again := parse(t, "t10", now.Bytes("t10")); !reflect.DeepEqual(again, now) {
		t.Errorf("what this test writes is not what the API server writes: %+v, %+v", again, now)
	}
}

// T6
func TestAThousandWritesShareOneSeedAndOneCallOfEncrypt(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	api := load(t, provider{name: "t6", endpoint: kms.Endpoint()})
	api.becomesHealthy(t)

	first := parse(t, "t6", api.mustWrite(t, "/0", "x"))
	for i := range 1000 {
		o := parse(t, "t6", api.mustWrite(t, fmt.Sprintf("/%d", i), "x"))
		if !bytes.Equal(o.Seed, first.Seed) {
			t.Fatalf("write %d has a seed of its own", i)
		}
	}
	if n := calls(t, "t6", "Encrypt"); n != 1 {
		t.Errorf("%v calls of Encrypt, want 1", n)
	}
}

// T8
func TestAllResourcesOfOneProviderShareOneConnection(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	resources := []string{"pods", "configmaps", "customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io", "widgets.example.com"}
	api := load(t, provider{name: "t8", endpoint: kms.Endpoint(), resources: resources})
	api.becomesHealthy(t)

	for _, resource := range resources {
		transformer := api.transformer(t, resource)
		data, err := transformer.TransformToStorage(t.Context(), []byte("x"), value.DefaultContext("/x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := transformer.TransformFromStorage(t.Context(), data, value.DefaultContext("/x")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one connection", 5*time.Second, func() bool { return connections(t, kms) == 1 })
}

// connections counts the connections that the sidecar has accepted, as the kernel lists them.
func connections(t *testing.T, kms *sidecar.Sidecar) (n int) {
	t.Helper()
	list, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	accepted := map[string]bool{}
	for _, line := range strings.Split(string(list), "\n") {
		// Num RefCount Protocol Flags Type St Inode Path; state 03 is connected. An accepted socket
		// has the path of its listener, the other end and socket pairs have none.
		if f := strings.Fields(line); len(f) == 8 && f[5] == "03" {
			accepted["socket:["+f[6]+"]"] = true
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", kms.PID())
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if target, err := os.Readlink(filepath.Join(dir, file.Name())); err == nil && accepted[target] {
			n++
		}
	}
	return n
}

// T16
func TestAHundredClientsEncryptAndDecryptAtOnce(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	load(t, provider{name: "t16", endpoint: kms.Endpoint()}).becomesHealthy(t)
	service, err := kmsv2.NewGRPCService(t.Context(), kms.Endpoint(), "t16-direct", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			seed := bytes.Repeat([]byte{byte(i)}, 32)
			sealed, err := service.Encrypt(t.Context(), fmt.Sprint(i), seed)
			if err != nil {
				t.Errorf("Encrypt %d: %v", i, err)
				return
			}
			opened, err := service.Decrypt(t.Context(), fmt.Sprint(i), &kmsservice.DecryptRequest{
				Ciphertext: sealed.Ciphertext, KeyID: sealed.KeyID, Annotations: sealed.Annotations,
			})
			if err != nil || !bytes.Equal(opened, seed) {
				t.Errorf("Decrypt %d: %x (%v)", i, opened, err)
			}
		})
	}
	group.Wait()
}
