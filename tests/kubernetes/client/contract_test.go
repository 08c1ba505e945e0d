//go:build !k8s131

package client

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsservice "k8s.io/kms/pkg/service"

	"barbican-kms/tests/kubernetes/plugin"
	"barbican-kms/tests/kubernetes/sidecar"
)

// T17: what the API server holds against a plugin, and that it holds none of it against ours.
func TestTheAPIServerRefusesEveryBrokenAnswerAndNoneOfOurs(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	load(t, provider{name: "t17", endpoint: kms.Endpoint()}).becomesHealthy(t)
	ours, err := direct(t, kms, "t17-direct", 3*time.Second).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ours.Version != "v2" || ours.Healthz != "ok" {
		t.Errorf("version %q, healthz %q", ours.Version, ours.Healthz)
	}

	good := kmsservice.StatusResponse{Version: "v2", Healthz: "ok", KeyID: "1"}
	for name, broken := range map[string]struct {
		edit func(*kmsservice.StatusResponse)
		want string
	}{
		"bad version":      {func(s *kmsservice.StatusResponse) { s.Version = "v3" }, "expected KMSv2 API version"},
		"bad health":       {func(s *kmsservice.StatusResponse) { s.Healthz = "not ok" }, "unexpected healthz status"},
		"empty key id":     {func(s *kmsservice.StatusResponse) { s.KeyID = "" }, "keyID is empty"},
		"key id too long":  {func(s *kmsservice.StatusResponse) { s.KeyID = strings.Repeat("a", 1025) }, "exceeds the max size"},
		"another key than": {func(s *kmsservice.StatusResponse) { s.KeyID = "2" }, "failed to rotate DEK"},
	} {
		t.Run(name, func(t *testing.T) {
			p, endpoint := faulty(t)
			p.SetRing(plugin.Ring{Write: good.KeyID, Keys: map[string][]byte{good.KeyID: make([]byte, 32)}})
			answer := good
			broken.edit(&answer)
			p.OnStatus(func() (*kmsservice.StatusResponse, error) { return &answer, nil })
			api := load(t, provider{name: "t17-" + strings.ReplaceAll(name, " ", "-"), endpoint: endpoint})
			if err := api.becomesUnhealthy(t); !strings.Contains(err.Error(), broken.want) {
				t.Errorf("want %q in %v", broken.want, err)
			}
			p.Recover()
			api.becomesHealthy(t)
		})
	}
}

// T18
func TestAPluginMayNotChangeItsVersionWhileTheAPIServerRuns(t *testing.T) {
	t.Parallel()
	p, endpoint := faulty(t)
	answer := func(version string) func() (*kmsservice.StatusResponse, error) {
		id := p.WriteKey()
		return func() (*kmsservice.StatusResponse, error) {
			return &kmsservice.StatusResponse{Version: version, Healthz: "ok", KeyID: id}, nil
		}
	}
	p.OnStatus(answer("v2beta1"))
	api := load(t, provider{name: "t18", endpoint: endpoint})
	api.becomesHealthy(t)
	p.OnStatus(answer("v2"))
	if err := api.becomesUnhealthy(t); !strings.Contains(err.Error(), "should not change") {
		t.Error(err)
	}
	p.OnStatus(answer("v2beta1"))
	api.becomesHealthy(t)
}

// T19, the rows that a well-behaved sidecar can reach.
func TestAnExpiredSeedIsRevivedByTheSameKeyAndReplacedByAnother(t *testing.T) {
	ahead := ownClock(t, "t19")
	a, b := newKey(t), newKey(t)
	kms := start(t, sidecar.Settings{Write: a.ID})
	api := load(t, provider{name: "t19", endpoint: kms.Endpoint(), timeout: time.Second})
	api.becomesHealthy(t)
	first := parse(t, "t19", api.mustWrite(t, "/a", "x"))

	expire := func(by time.Duration) {
		t.Helper()
		if err := kms.Stop(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		api.becomesUnhealthy(t)
		ahead(by)
		if _, err := api.write(t, "/a", "x"); err == nil {
			t.Fatal("the seed did not expire")
		}
	}
	expire(4 * time.Minute)
	kms.MustStart(t)
	api.becomesHealthy(t)
	if o := parse(t, "t19", api.mustWrite(t, "/a", "x")); string(o.Seed) != string(first.Seed) {
		t.Error("the same key did not revive the seed")
	}

	expire(8 * time.Minute)
	if err := kms.Configure(sidecar.Settings{Write: b.ID, Decrypt: []string{a.ID}}); err != nil {
		t.Fatal(err)
	}
	kms.MustStart(t)
	api.becomesHealthy(t)
	if o := parse(t, "t19", api.mustWrite(t, "/a", "x")); string(o.Seed) == string(first.Seed) || o.KeyID != b.ID {
		t.Error("another key did not replace the seed")
	}
}

// T19, the rows that need a plugin that contradicts itself or refuses.
func TestAFailedRotationKeepsTheOldSeedForWrites(t *testing.T) {
	t.Parallel()
	p, endpoint := faulty(t)
	api := load(t, provider{name: "t19-faulty", endpoint: endpoint})
	api.becomesHealthy(t)
	first := parse(t, "t19-faulty", api.mustWrite(t, "/a", "x"))
	keeps := func() {
		t.Helper()
		if o := parse(t, "t19-faulty", api.mustWrite(t, "/a", "x")); string(o.Seed) != string(first.Seed) {
			t.Error("the seed was replaced")
		}
	}

	t.Run("Encrypt answers with another key id than Status", func(t *testing.T) {
		p.OnStatus(func() (*kmsservice.StatusResponse, error) {
			return &kmsservice.StatusResponse{Version: "v2", Healthz: "ok", KeyID: "new"}, nil
		})
		if err := api.becomesUnhealthy(t); !strings.Contains(err.Error(), "failed to rotate DEK") {
			t.Error(err)
		}
		keeps()
	})
	t.Run("Encrypt fails", func(t *testing.T) {
		p.OnEncrypt(func(*kmsservice.EncryptResponse) (*kmsservice.EncryptResponse, error) {
			return nil, status.Error(codes.Unavailable, "no key today")
		})
		api.becomes(t, "failing in Encrypt", func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "no key today")
		})
		keeps()
	})
	t.Run("everything fails", func(t *testing.T) {
		p.Fail(errors.New("plugin is broken"))
		api.becomes(t, "failing in Status", func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "plugin is broken")
		})
		keeps()
	})
	p.Recover()
	api.becomesHealthy(t)
	keeps()
}

// The answers of Encrypt against every limit that the API server checks.
func TestEncryptStaysFarBelowTheLimitsOfTheAPIServer(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	kms := start(t, sidecar.Settings{Write: key.ID, Suffix: "002"})
	load(t, provider{name: "limits", endpoint: kms.Endpoint()}).becomesHealthy(t)
	answer, err := direct(t, kms, "limits-direct", 3*time.Second).Encrypt(t.Context(), "uid", make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if want := key.ID + "_002"; answer.KeyID != want {
		t.Errorf("key id %q, want %q", answer.KeyID, want)
	}
	if n := len(answer.Ciphertext); n != 64 {
		t.Errorf("a seed of 32 bytes becomes %d, want 16 of IV and 48 of padded ciphertext", n)
	}
	if keys := slices.Collect(maps.Keys(answer.Annotations)); !slices.Equal(keys, []string{plugin.Annotation}) {
		t.Errorf("annotations %v", keys)
	}
}

func TestTheAPIServerSaysLocalhostAndSendsAUIDWithEveryCall(t *testing.T) {
	t.Parallel()
	p, endpoint := faulty(t)
	api := load(t, provider{name: "authority", endpoint: endpoint})
	api.becomesHealthy(t)
	data := api.mustWrite(t, "/a", "x")
	fresh := load(t, provider{name: "authority", endpoint: endpoint})
	fresh.becomesHealthy(t)
	fresh.mustRead(t, "/a", data, "x")

	got := p.Calls()
	if got.Decrypt != 1 || got.Encrypt != 2 {
		t.Errorf("%d calls of Decrypt and %d of Encrypt, want 1 and 2", got.Decrypt, got.Encrypt)
	}
	if got.WithoutUID != 0 {
		t.Errorf("%d calls without uid", got.WithoutUID)
	}
	if len(got.Authorities) != 1 || got.Authorities["localhost"] == 0 {
		t.Errorf("authorities %v, want only localhost", got.Authorities)
	}
}

// A client that can write to etcd must not choose which secret is read from Barbican.
func TestAnObjectThatNamesAForeignKeyIsRefused(t *testing.T) {
	t.Parallel()
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	seed := sealed(t, kms, "foreign")
	service := direct(t, kms, "foreign-direct", 3*time.Second)

	other := *seed
	other.KeyID = newKey(t).ID
	if _, err := service.Decrypt(t.Context(), "uid", &other); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a key outside the ring: %v", err)
	}
	altered := *seed
	altered.Ciphertext = append([]byte(nil), seed.Ciphertext...)
	altered.Ciphertext[20] ^= 1
	if _, err := service.Decrypt(t.Context(), "uid", &altered); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an altered seed: %v", err)
	}
	if _, err := service.Decrypt(t.Context(), "uid", seed); err != nil {
		t.Errorf("the seed itself: %v", err)
	}
}
