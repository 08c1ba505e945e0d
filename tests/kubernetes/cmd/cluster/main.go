// cluster runs a kube-apiserver and an etcd for somebody to look at, outside of any test.
package main

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"barbican-kms/tests/kubernetes/cluster"
	"barbican-kms/tests/kubernetes/proc"
	"barbican-kms/tests/kubernetes/stored"
)

const usage = `usage: cluster COMMAND DIR ...

  up DIR --socket PATH     start etcd and kube-apiserver, whose Secrets go through
                           the KMS plugin on that unix socket
  stored DIR NAME          show what etcd holds of a Secret, which must not be what
                           the API returns
  restart-apiserver DIR    stop kube-apiserver and start it anew, with nothing cached
  down DIR                 stop both

KUBERNETES_SERVERS names the directory that scripts/kubernetes-servers prints.
`

const (
	provider  = "barbican"
	namespace = "default"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(64)
	}
	commands := map[string]func(context.Context, string, []string) error{
		"up": up, "stored": showStored, "restart-apiserver": restart, "down": down,
	}
	run, ok := commands[os.Args[1]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(64)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := filepath.Abs(os.Args[2])
	if err == nil {
		err = run(ctx, dir, os.Args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func up(ctx context.Context, dir string, args []string) (err error) {
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	socket := flags.String("socket", "", "unix socket of the KMS plugin")
	_ = flags.Parse(args)
	if *socket == "" {
		return fmt.Errorf("up needs --socket")
	}
	path, err := filepath.Abs(*socket)
	if err != nil {
		return err
	}
	if c, a, err := cluster.Load(dir); err == nil && (c.Etcd.Process != nil || a.Process != nil) {
		return fmt.Errorf("%s has a running cluster; end it with: cluster down %s", dir, dir)
	}
	programs, err := cluster.FindPrograms()
	if err != nil {
		return err
	}
	c, err := cluster.New(programs, dir, true)
	if err != nil {
		return err
	}
	a, err := c.NewAPIServer(cluster.Options{Name: "apiserver", Reload: true})
	if err != nil {
		return err
	}
	if err := a.SetEncryption(cluster.Provider{Name: provider, Endpoint: "unix://" + path}); err != nil {
		return err
	}
	if err := c.Etcd.Start(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = stop(a.Process)
			_ = stop(c.Etcd.Process)
		}
	}()
	if err := c.Etcd.Ready(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := a.Start(); err != nil {
		return err
	}
	if err := c.Save(a); err != nil {
		return err
	}
	if err := ready(ctx, a); err != nil {
		return err
	}
	fmt.Printf("kube-apiserver is ready after %.1f s: %s\n", time.Since(began).Seconds(), a.URL)
	fmt.Printf("%s --kubeconfig %s get secrets -A\n", programs.Kubectl, a.Kubeconfig)
	return nil
}

// ready also waits for the namespace that kube-apiserver makes soon after.
func ready(ctx context.Context, a *cluster.APIServer) error {
	if err := a.Ready(ctx); err != nil {
		return err
	}
	return a.CreateNamespace(ctx, namespace)
}

func showStored(ctx context.Context, dir string, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("stored takes the name of a Secret")
	}
	c, a, err := cluster.Load(dir)
	if err != nil {
		return err
	}
	key := a.SecretKey(namespace, args[0])
	value, err := c.Etcd.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("etcd holds %d bytes under %s:\n", len(value), key)
	fmt.Print(hex.Dump(value[:min(len(value), 96)]))
	object, err := stored.Parse(provider, value)
	if err != nil {
		return fmt.Errorf("not encrypted by this provider: %w", err)
	}
	fmt.Printf("prefix %s, key id %s, sealed seed of %d bytes\n", stored.Prefix(provider), object.KeyID, len(object.Seed))
	s, err := a.GetSecret(ctx, namespace, args[0])
	if err != nil {
		return err
	}
	for name, clear := range s.Data {
		if len(clear) > 0 && strings.Contains(string(value), string(clear)) {
			return fmt.Errorf("the clear text of %q is in etcd", name)
		}
	}
	return nil
}

func restart(ctx context.Context, dir string, _ []string) error {
	c, a, err := cluster.Load(dir)
	if err != nil {
		return err
	}
	if err := stop(a.Process); err != nil {
		return err
	}
	began := time.Now()
	if err := a.Start(); err != nil {
		return err
	}
	if err := c.Save(a); err != nil {
		return err
	}
	if err := a.Ready(ctx); err != nil {
		return err
	}
	fmt.Printf("kube-apiserver was restarted and is ready after %.1f s\n", time.Since(began).Seconds())
	return nil
}

func down(_ context.Context, dir string, _ []string) error {
	c, a, err := cluster.Load(dir)
	if err != nil {
		return err
	}
	if err := stop(a.Process); err != nil {
		return err
	}
	return stop(c.Etcd.Process)
}

func stop(p *proc.Process) error {
	if p == nil {
		return nil
	}
	return p.Stop(30 * time.Second)
}
