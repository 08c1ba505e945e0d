// Package cluster runs the storage half of a control plane: a real etcd and real kube-apiservers on
// loopback, with certificates of its own and nothing else, no kubelet and no controllers.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"barbican-kms/tests/kubernetes/proc"
)

// Programs are the paths of the servers.
type Programs struct {
	Etcd, KubeAPIServer, Kubectl string
}

// EnvServers names the directory that `scripts/kubernetes-servers` printed.
const EnvServers = "KUBERNETES_SERVERS"

// FindPrograms looks where the environment says.
func FindPrograms() (Programs, error) {
	dir := os.Getenv(EnvServers)
	if dir == "" {
		return Programs{}, fmt.Errorf("%s must name the directory that scripts/kubernetes-servers prints", EnvServers)
	}
	p := Programs{
		Etcd:          filepath.Join(dir, "etcd"),
		KubeAPIServer: filepath.Join(dir, "kube-apiserver"),
		Kubectl:       filepath.Join(dir, "kubectl"),
	}
	for _, path := range []string{p.Etcd, p.KubeAPIServer, p.Kubectl} {
		if _, err := os.Stat(path); err != nil {
			return p, fmt.Errorf("%s: %w", EnvServers, err)
		}
	}
	return p, nil
}

// Cluster is one etcd and the API servers on it.
type Cluster struct {
	Dir  string
	Etcd *Etcd

	programs Programs
	detach   bool
}

// New prepares a cluster in a directory; nothing runs yet. A detached one outlives this process.
func New(programs Programs, dir string, detach bool) (*Cluster, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := makePKI(dir); err != nil {
		return nil, err
	}
	etcd, err := newEtcd(programs, dir, detach)
	if err != nil {
		return nil, err
	}
	return &Cluster{Dir: dir, Etcd: etcd, programs: programs, detach: detach}, nil
}

// saved is what a later process needs to take up a detached cluster.
type saved struct {
	Programs  Programs
	EtcdURL   string
	Etcd      detached
	APIServer detached
	Server    APIServer
}

type detached struct {
	PID     int
	Options proc.Options
}

const saveFile = "cluster.json"

// Save writes down a running detached cluster with one API server.
func (c *Cluster) Save(a *APIServer) error {
	server := *a
	server.Process, server.client = nil, nil
	text, err := json.MarshalIndent(saved{
		Programs: c.programs, EtcdURL: c.Etcd.URL,
		Etcd:      detached{c.Etcd.PID(), c.Etcd.options},
		APIServer: detached{a.PID(), a.options},
		Server:    server,
	}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Dir, saveFile), append(text, '\n'), 0o600)
}

// Load takes up what Save wrote down. A server that does not run any more has no Process.
func Load(dir string) (*Cluster, *APIServer, error) {
	text, err := os.ReadFile(filepath.Join(dir, saveFile))
	if err != nil {
		return nil, nil, fmt.Errorf("no cluster: %w", err)
	}
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", saveFile, err)
	}
	c := &Cluster{Dir: dir, programs: s.Programs, detach: true, Etcd: &Etcd{URL: s.EtcdURL, options: s.Etcd.Options}}
	a := s.Server
	a.options = s.APIServer.Options
	c.Etcd.Process, _ = proc.Adopt(s.Etcd.Options, s.Etcd.PID)
	a.Process, _ = proc.Adopt(s.APIServer.Options, s.APIServer.PID)
	a.client, err = adminClient(dir)
	return c, &a, err
}

// poll repeats the check until it passes, the process ends or the context does.
func poll(ctx context.Context, p *proc.Process, every time.Duration, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended with code %d: %w; its log ends:\n%s", p.Name, p.ExitCode(), err, p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; its log ends:\n%s", p.Name, errors.Join(err, ctx.Err()), p.Tail())
		case <-time.After(every):
		}
	}
}

// freePorts finds free ports. They are below those that the kernel gives to a process that
// connects: such a one could be taken before it is used.
func freePorts(n int) ([]int, error) {
	const lowest, highest = 20000, 32000
	var ports []int
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer listener.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d", n, lowest, highest)
}
