//go:build !k8s131

package client

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsservice "k8s.io/kms/pkg/service"

	"barbican-kms/tests/kubernetes/sidecar"
)

// T4 and T5
func TestWithoutTheSidecarWritesGoOnForThreeMinutesAndReadsForever(t *testing.T) {
	ahead := ownClock(t, "t4")
	const path = "/registry/secrets/default/a"
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	api := load(t, provider{name: "t4", endpoint: kms.Endpoint(), timeout: time.Second})
	api.becomesHealthy(t)
	data := api.mustWrite(t, path, "hunter2")

	if err := kms.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := api.becomesUnhealthy(t); !strings.Contains(err.Error(), "t4") {
		t.Errorf("the health check does not name the provider: %v", err)
	}
	api.mustWrite(t, path, "hunter2")
	api.mustRead(t, path, data, "hunter2")

	ahead(5 * time.Minute)
	if _, err := api.write(t, path, "hunter2"); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a write 5 minutes later: %v, want one that says expired", err)
	}
	if api.mustRead(t, path, data, "hunter2") {
		t.Error("stale, so an update without a change would fail")
	}

	kms.MustStart(t)
	api.becomesHealthy(t)
	after := api.mustWrite(t, path, "hunter2")
	if !bytes.Equal(parse(t, "t4", data).Seed, parse(t, "t4", after).Seed) {
		t.Error("the seed changed though the key did not")
	}
	api.mustRead(t, path, data, "hunter2")
}

func TestASidecarWithoutItsKeyIsUnhealthyAndItsReasonReachesTheHealthCheck(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: bench.MissingKey()})
	api := load(t, provider{name: "nokey", endpoint: kms.Endpoint()})

	err := api.becomesUnhealthy(t)
	if !strings.Contains(err.Error(), "Unavailable") {
		t.Errorf("want the code Unavailable in %q", err)
	}
	if _, err := api.write(t, "/a", "x"); err == nil {
		t.Error("a write went through without any key")
	}
	if n := metric(t, "apiserver_envelope_encryption_invalid_key_id_from_status_total", "provider_name", "nokey"); n != 0 {
		t.Errorf("%v invalid key ids: the sidecar answered Status instead of refusing it", n)
	}

	if err := kms.Configure(sidecar.Settings{Write: newKey(t).ID}); err != nil {
		t.Fatal(err)
	}
	api.becomesHealthy(t)
	api.mustRead(t, "/a", api.mustWrite(t, "/a", "x"), "x")
}

// T7
func TestHealthNamesEachOfTwoProvidersThatIsDown(t *testing.T) {
	t.Parallel()
	first := start(t, sidecar.Settings{Write: newKey(t).ID})
	second := start(t, sidecar.Settings{Write: newKey(t).ID})
	api := load(t,
		provider{name: "t7-first", endpoint: first.Endpoint(), timeout: time.Second},
		provider{name: "t7-second", endpoint: second.Endpoint(), resources: []string{"configmaps"}, timeout: time.Second})
	api.becomesHealthy(t)

	down := func(firstDown, secondDown bool) {
		t.Helper()
		api.becomes(t, "as the sidecars are", func(err error) bool {
			text := ""
			if err != nil {
				text = err.Error()
			}
			return strings.Contains(text, "kms-provider-0") == firstDown &&
				strings.Contains(text, "kms-provider-1") == secondDown
		})
	}
	stop := func(c *sidecar.Sidecar) {
		t.Helper()
		if err := c.Stop(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	stop(first)
	down(true, false)
	first.MustStart(t)
	down(false, false)
	stop(second)
	down(false, true)
	stop(first)
	down(true, true)
	first.MustStart(t)
	second.MustStart(t)
	down(false, false)
}

// sealed is a seed in the form in which the sidecar hands it out.
func sealed(t *testing.T, kms *sidecar.Sidecar, name string) *kmsservice.DecryptRequest {
	t.Helper()
	load(t, provider{name: name, endpoint: kms.Endpoint()}).becomesHealthy(t)
	service := direct(t, kms, name+"-sealed", 5*time.Second)
	answer, err := service.Encrypt(t.Context(), "uid", bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &kmsservice.DecryptRequest{Ciphertext: answer.Ciphertext, KeyID: answer.KeyID, Annotations: answer.Annotations}
}

func direct(t *testing.T, kms *sidecar.Sidecar, name string, timeout time.Duration) kmsservice.Service {
	t.Helper()
	service, err := kmsv2.NewGRPCService(t.Context(), kms.Endpoint(), name, timeout)
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// T13
func TestTheFirstCallSucceedsThoughTheSidecarStartsLaterThanTheClient(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	seed := sealed(t, kms, "t13")
	if err := kms.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	service := direct(t, kms, "t13-late", 10*time.Second)
	started := kms.StartLater(t, 1500*time.Millisecond, func() {})
	if _, err := service.Decrypt(t.Context(), "uid", seed); err != nil {
		t.Errorf("the call that waited for the sidecar: %v", err)
	}
	started()
	t.Logf("answered %s after the call, with the sidecar 1.5 s late", time.Since(began).Round(time.Millisecond))
}

// T14
func TestACallToAFrozenSidecarEndsAtItsDeadlineAndTheNextOneWorks(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	seed := sealed(t, kms, "t14")
	service := direct(t, kms, "t14-direct", time.Second)
	if _, err := service.Decrypt(t.Context(), "uid", seed); err != nil {
		t.Fatal(err)
	}

	if err := kms.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err := service.Decrypt(t.Context(), "uid", seed)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
	if took := time.Since(began); took < 900*time.Millisecond || took > 3*time.Second {
		t.Errorf("the deadline of 1 s came after %s", took)
	}
	if err := kms.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Decrypt(t.Context(), "uid", seed); err != nil {
		t.Errorf("after the freeze: %v", err)
	}
}

// T15
func TestACallMadeWhileTheSidecarRestartsWaitsForIt(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	seed := sealed(t, kms, "t15")
	service := direct(t, kms, "t15-direct", 10*time.Second)
	if _, err := service.Decrypt(t.Context(), "uid", seed); err != nil {
		t.Fatal(err)
	}
	if err := kms.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	// A call that is on the old connection when that ends fails; one that comes after waits.
	eventually(t, "seen to be gone", 5*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := service.Status(ctx)
		return status.Code(err) == codes.DeadlineExceeded
	})
	started := kms.StartLater(t, time.Second, func() {})
	if _, err := service.Decrypt(t.Context(), "uid", seed); err != nil {
		t.Errorf("the call during the restart: %v", err)
	}
	started()
}

func TestAKilledSidecarStartsOnItsOwnStaleSocket(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	seed := sealed(t, kms, "stale")
	kms.Kill()
	kms.MustStart(t)
	if _, err := direct(t, kms, "stale-direct", 10*time.Second).Decrypt(t.Context(), "uid", seed); err != nil {
		t.Error(err)
	}
}
