//go:build k8s131

package client

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"

	"barbican-kms/tests/kubernetes/sidecar"
)

func TestAnAPIServer131SendsTheSocketPathAsAuthority(t *testing.T) {
	p, endpoint := faulty(t)
	load(t, provider{name: "authority", endpoint: endpoint}).becomesHealthy(t)
	path := strings.TrimPrefix(endpoint, "unix://")
	if got := p.Calls().Authorities; len(got) != 1 || got[url.PathEscape(path)] == 0 {
		t.Errorf("authorities %v, want only %q", got, url.PathEscape(path))
	}
}

func TestAnAPIServer131IsRefusedAndTheLogOfTheSidecarSaysWhyOnce(t *testing.T) {
	if bench.StandIn() {
		t.Skip("the stand-in is made with grpc-go, which takes any authority")
	}
	kms := start(t, sidecar.Settings{Write: newKey(t).ID})
	service, err := kmsv2.NewGRPCService(t.Context(), kms.Endpoint(), "refused", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := service.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "PROTOCOL_ERROR") {
			t.Fatalf("got %v, want a PROTOCOL_ERROR", err)
		}
	}
	eventually(t, "explained in the log", 5*time.Second, func() bool { return kms.LogCount("1.32") > 0 })
	if n := kms.LogCount("1.32"); n != 1 {
		t.Errorf("explained %d times, want once:\n%s", n, kms.Tail())
	}
}
