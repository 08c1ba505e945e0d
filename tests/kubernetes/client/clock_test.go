//go:build !k8s132 && !k8s131

package client

import (
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
)

// ownClock gives the provider a clock of its own and returns the function that sets it forward.
func ownClock(t *testing.T, provider string) (ahead func(time.Duration)) {
	t.Parallel()
	ahead, now := clock()
	t.Cleanup(kmsv2.SetNowFuncForTests(provider, now))
	return ahead
}
