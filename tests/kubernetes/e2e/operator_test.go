package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
)

// operator is one with a shell on a workstation: openstack, kubectl and scripts/rotate-key.
type operator struct {
	w       *world
	options proc.Options
	runs    int
}

// operator of the cloud and of a cluster with these nodes, whose sidecars are of the same names.
// There is no kubelet for kubectl exec, so it asks the sidecars themselves.
func (w *world) operator(cloud *openstack.Cloud, a *cluster.APIServer, nodes ...string) *operator {
	w.t.Helper()
	tool, err := openstack.Script("rotate-key")
	check(w.t, err)
	shell := append(cloud.Operator(), "KUBECONFIG="+a.Kubeconfig)
	shell[0] += ":" + filepath.Dir(programs.Kubectl)
	ask := strings.Join(w.bench.StatusCommand(w.dir, "{node}"), " ")
	return &operator{w: w, options: proc.Options{Bin: tool, Dir: w.dir, Env: shell, Args: []string{
		"--nodes", strings.Join(nodes, ","), "--status-command", ask, "--poll", "0.2", "--rewrite",
	}}}
}

// What the tool says when these are over.
const (
	activated = "activated key"
	migrated  = "done:"
)

// rotation is one run of the tool.
type rotation struct {
	*proc.Process
	w     *world
	began time.Time

	mu    sync.Mutex
	after map[string]time.Duration // until it said these
}

// begin starts the tool.
func (o *operator) begin(words ...string) *rotation {
	o.w.t.Helper()
	options := o.options
	o.runs++
	options.Name = fmt.Sprintf("rotate-key-%d", o.runs)
	options.Args = append(words, options.Args...)
	p, err := proc.Start(options)
	check(o.w.t, err)
	r := &rotation{Process: p, w: o.w, began: time.Now(), after: map[string]time.Duration{}}
	go r.watch(activated, migrated)
	return r
}

func (r *rotation) watch(texts ...string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for r.Alive() {
		r.mu.Lock()
		for _, text := range texts {
			if _, said := r.after[text]; !said && r.LogCount(text) > 0 {
				r.after[text] = time.Since(r.began)
			}
		}
		r.mu.Unlock()
		<-tick.C
	}
}

// said is how long after its start the tool said a text that it was watched for.
func (r *rotation) said(text string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.after[text]
}

// says waits for a text.
func (r *rotation) says(text string) {
	r.w.t.Helper()
	eventually(r.w.t, fmt.Sprintf("%s says %q", r.Name, text), patience, func() bool {
		ended := !r.Alive()
		if r.LogCount(text) > 0 {
			return true
		}
		if ended {
			r.w.t.Fatalf("%s ended without saying %q:\n%s", r.Name, text, r.Tail())
		}
		return false
	})
}

// done waits for its end, which must be a good one, and returns how long it took.
func (r *rotation) done() time.Duration {
	r.w.t.Helper()
	select {
	case <-r.Done():
	case <-time.After(patience):
		r.Kill()
		r.w.t.Fatalf("%s did not end within %s:\n%s", r.Name, patience, r.Tail())
	}
	if code := r.ExitCode(); code != 0 {
		r.w.t.Fatalf("%s ended with code %d:\n%s", r.Name, code, r.Tail())
	}
	return time.Since(r.began)
}

// patience is for one step of the tool. With the pauses of a real cluster it takes many minutes.
var patience = func() time.Duration {
	if os.Getenv(envLong) != "" {
		return 20 * time.Minute
	}
	return 3 * time.Minute
}()
