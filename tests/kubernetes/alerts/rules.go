// Package alerts has a real Prometheus evaluate the shipped rules, faster than in reality.
package alerts

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Alert is what the campaign needs to know of one.
type Alert struct {
	Name string
	// For is how long its condition must hold; Window, how far back the condition looks.
	For, Window time.Duration
}

// Faster divides every time in the rules, but for the ages of credentials and keys, which are
// counted in days. What it does not understand is an error: a time that stays as it is would make
// an alert that never fires.
func Faster(rules []byte, factor int) (faster []byte, all []Alert, err error) {
	var file struct {
		Groups []struct {
			Name  string           `json:"name"`
			Rules []map[string]any `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(rules, &file); err != nil {
		return nil, nil, err
	}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			alert, err := hurry(rule, factor)
			if err != nil {
				return nil, nil, fmt.Errorf("%v: %w", rule["alert"], err)
			}
			all = append(all, alert)
		}
	}
	// Prometheus reads YAML, and that is YAML.
	faster, err = json.Marshal(file)
	return faster, all, err
}

func hurry(rule map[string]any, factor int) (alert Alert, err error) {
	for key := range rule {
		switch key {
		case "alert", "expr", "for", "labels", "annotations":
		default:
			return alert, fmt.Errorf("%s is not understood", key)
		}
	}
	alert.Name, _ = rule["alert"].(string)
	expr, _ := rule["expr"].(string)
	if alert.Name == "" || expr == "" {
		return alert, fmt.Errorf("no name or no expression")
	}
	if wait, ok := rule["for"]; ok {
		if alert.For, err = divided(fmt.Sprint(wait), factor); err != nil {
			return alert, err
		}
		rule["for"] = alert.For.String()
	}
	rule["expr"], alert.Window, err = hurried(expr, factor)
	return alert, err
}

// What an expression consists of, as far as that matters: texts, days, ranges, names, numbers.
var tokens = regexp.MustCompile(`"[^"]*"|\b\d+ \* 24 \* 3600\b|\[[^\]]*\]|[a-zA-Z_:][\w:]*|\d[\w.]*`)

// Numbers from this on are seconds; smaller ones are counts, shares, and the latency of a call.
const leastTime = 60

// hurried returns also the longest range that the expression looks back.
func hurried(expr string, factor int) (faster string, window time.Duration, err error) {
	fail := func(token string, because error) string {
		err = fmt.Errorf("%q: %w", token, because)
		return token
	}
	faster = tokens.ReplaceAllStringFunc(expr, func(token string) string {
		switch {
		case token[0] == '[':
			d, because := divided(strings.Trim(token, "[]"), factor)
			if because != nil {
				return fail(token, because)
			}
			window = max(window, d)
			return "[" + d.String() + "]"
		case strings.HasSuffix(token, "* 3600") || token[0] < '0' || token[0] > '9':
			return token
		}
		n, because := strconv.ParseFloat(token, 64)
		if because != nil {
			return fail(token, because)
		}
		if n < leastTime {
			return token
		}
		d, because := divided(token+"s", factor)
		if because != nil {
			return fail(token, because)
		}
		return strconv.Itoa(int(d / time.Second))
	})
	return faster, window, err
}

var oneTime = regexp.MustCompile(`^(\d+)([smh])$`)

func divided(text string, factor int) (time.Duration, error) {
	if !oneTime.MatchString(text) {
		return 0, fmt.Errorf("%q is not a time in seconds, minutes or hours", text)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	part := d / time.Duration(factor)
	if part < time.Second || part%time.Second != 0 {
		return 0, fmt.Errorf("a part of %d of %s is not of whole seconds", factor, text)
	}
	return part, nil
}
