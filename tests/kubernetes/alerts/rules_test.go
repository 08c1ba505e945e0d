package alerts

import (
	"os"
	"strings"
	"testing"
	"time"
)

const one = `groups:
- name: one
  rules:
  - alert: Late
    expr: |
      (
        clamp_min(3 * max by (cluster) (age_5m_seconds{code!~"OK|1800|[5m]"}), 1800) > 0.05
      )
      and sum(increase(lost_total{outcome="dropped"}[10m])) + rate(lost_total[5m]) >= 3
    for: 5m
`

func TestTimesAreDividedAndNothingElse(t *testing.T) {
	faster, all, err := Faster([]byte(one), 30)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0] != (Alert{"Late", 10 * time.Second, 20 * time.Second}) {
		t.Errorf("%+v", all)
	}
	for _, want := range []string{
		`[20s]`, `[10s]`, `"for":"10s"`, `clamp_min(3 * `, `, 60) `, `0.05`, `= 3`, `age_5m_seconds`, `OK|1800|[5m]`,
	} {
		if !strings.Contains(unescaped(faster), want) {
			t.Errorf("no %s in %s", want, faster)
		}
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	for from, to := range map[string]string{
		"for: 5m":  "for: 1h30m", // two units
		"[10m]":    "[10m:1m]",
		"l[5m])":   "l[5m] offset 7m)",
		", 1800":   ", 1801", // not a whole second
		"alert:":   "record:",
		"expr: |":  "expression: |",
		">= 3":     ">= 3d",
		"    for:": "    keep_firing_for:",
	} {
		if _, _, err := Faster([]byte(strings.Replace(one, from, to, 1)), 30); err == nil {
			t.Errorf("%s instead of %s is taken", to, from)
		}
	}
}

// The ages in days are what is left of the times.
func TestTheShippedRulesAreUnderstood(t *testing.T) {
	rules, err := os.ReadFile("../../../static-pod/monitoring/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	faster, all, err := Faster(rules, 30)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != strings.Count(string(rules), "- alert:") {
		t.Errorf("%d alerts of %d", len(all), strings.Count(string(rules), "- alert:"))
	}
	for _, want := range []string{"< 30 * 24 * 3600", "> 90 * 24 * 3600", ", 60)\n"} {
		if !strings.Contains(unescaped(faster), want) {
			t.Errorf("no %s in %s", want, faster)
		}
	}
}

func unescaped(text []byte) string {
	return strings.NewReplacer(`\u003e`, ">", `\u003c`, "<", `\u0026`, "&", `\"`, `"`, `\n`, "\n").Replace(string(text))
}
