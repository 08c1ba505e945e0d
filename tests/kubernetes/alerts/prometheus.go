package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"barbican-kms/tests/kubernetes/proc"
)

// Target is one program that Prometheus asks.
type Target struct{ Instance, Address string }

// Prometheus is one that evaluates rules once a second.
type Prometheus struct {
	*proc.Process
	url     string
	targets int
}

// Start starts one with these rules; it keeps everything in the directory.
func Start(dir, bin string, rules []byte, targets []Target) (*Prometheus, error) {
	place := filepath.Join(dir, "prometheus")
	if err := os.MkdirAll(place, 0o700); err != nil {
		return nil, err
	}
	var static []map[string]any
	for _, t := range targets {
		static = append(static, map[string]any{
			"targets": []string{t.Address}, "labels": map[string]string{"instance": t.Instance},
		})
	}
	config, err := json.Marshal(map[string]any{
		"global": map[string]string{
			"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s",
		},
		"rule_files":     []string{"rules.yaml"},
		"scrape_configs": []any{map[string]any{"job_name": "barbican-kms", "static_configs": static}},
	})
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{"rules.yaml": rules, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(place, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	address, err := FreeAddress(9)
	if err != nil {
		return nil, err
	}
	p := &Prometheus{url: "http://" + address, targets: len(targets)}
	p.Process, err = proc.Start(proc.Options{Name: "prometheus", Dir: dir, Bin: bin, Args: []string{
		"--config.file", filepath.Join(place, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(place, "data"),
		"--web.listen-address", address, "--log.level", "warn",
	}})
	return p, err
}

// FreeAddress is one of this machine. Nothing connects from it: a port there stays free while a
// program is started anew.
func FreeAddress(n int) (string, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.1.%d:0", n))
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// Evaluates says whether every rule was evaluated and none has an error.
func (p *Prometheus) Evaluates(ctx context.Context) error {
	var about struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.ask(ctx, "/api/v1/rules", &about); err != nil {
		return err
	}
	for _, group := range about.Groups {
		for _, rule := range group.Rules {
			if rule.Health != "ok" {
				return fmt.Errorf("%s: %s %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}
	if len(about.Groups) == 0 {
		return fmt.Errorf("no rules")
	}
	return nil
}

// Knows says whether every program has answered: a counter that Prometheus has not seen yet does
// not increase for it.
func (p *Prometheus) Knows(ctx context.Context) error {
	var about struct {
		ActiveTargets []struct{ ScrapeURL, Health, LastError string }
	}
	if err := p.ask(ctx, "/api/v1/targets?state=active", &about); err != nil {
		return err
	}
	for _, target := range about.ActiveTargets {
		if target.Health != "up" {
			return fmt.Errorf("%s: %s %s", target.ScrapeURL, target.Health, target.LastError)
		}
	}
	if n := len(about.ActiveTargets); n != p.targets {
		return fmt.Errorf("%d of %d programs are asked", n, p.targets)
	}
	return nil
}

// Firing is when an alert with its labels fired: the evaluations that said so.
type Firing struct {
	Labels map[string]string
	At     []time.Time
}

// Name of the alert, with its reason where there are several.
func (f Firing) Name() string {
	name := f.Labels["alertname"]
	if reason := f.Labels["reason"]; reason != "" {
		name += " " + reason
	}
	return name
}

// Fired is all that fired since then, also what did so only once.
func (p *Prometheus) Fired(ctx context.Context, since time.Time) (all []Firing, err error) {
	now := time.Now()
	query := fmt.Sprintf(`ALERTS{alertstate="firing"}[%dms]`, now.Sub(since).Milliseconds()+1)
	var answer struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	err = p.ask(ctx, "/api/v1/query?"+url.Values{
		"query": {query}, "time": {fmt.Sprintf("%.3f", float64(now.UnixMilli())/1000)},
	}.Encode(), &answer)
	for _, series := range answer.Result {
		f := Firing{Labels: series.Metric}
		for _, value := range series.Values {
			seconds, _ := value[0].(float64)
			f.At = append(f.At, time.UnixMilli(int64(math.Round(seconds*1000))))
		}
		all = append(all, f)
	}
	return all, err
}

func (p *Prometheus) ask(ctx context.Context, path string, data any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", path, response.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s: %s", path, response.Status, answer.Error)
	}
	return nil
}
