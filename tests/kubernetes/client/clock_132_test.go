//go:build k8s132 || k8s131

package client

import (
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
)

var setClock func(time.Duration)

func init() { setClock, kmsv2.NowFunc = clock() }

// ownClock returns the function that sets the clock forward. This release has one clock for all
// providers, so such a test runs alone.
func ownClock(t *testing.T, provider string) (ahead func(time.Duration)) {
	t.Cleanup(func() { setClock(0) })
	return setClock
}
