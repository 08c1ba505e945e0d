// kube-apiserver, as cmd/kube-apiserver of the same release builds it, with one addition: a test
// may move the clock by which a KMS v2 provider lets its seed for writes expire.
package main

import (
	"os"
	"strings"
	"time"
	_ "time/tzdata" // time zones of CronJobs

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	// KMS_CLOCK=PROVIDER=FILE: that provider's clock is ahead by the duration in the file, which is
	// read each time the clock is, so that a change is in force as soon as it is written.
	if provider, file, ok := strings.Cut(os.Getenv("KMS_CLOCK"), "="); ok {
		kmsv2.SetNowFuncForTests(provider, func() time.Time {
			text, err := os.ReadFile(file)
			if err != nil {
				return time.Now()
			}
			ahead, err := time.ParseDuration(strings.TrimSpace(string(text)))
			if err != nil {
				panic("KMS_CLOCK: " + err.Error())
			}
			return time.Now().Add(ahead)
		})
	}
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
