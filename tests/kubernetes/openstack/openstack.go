// Package openstack makes keys in the Keystone and Barbican of `scripts/openstack up`, and takes
// the servers away and brings them back.
package openstack

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Cloud is one running pair of servers.
type Cloud struct {
	dir, script        string
	global             string
	reader, cloudsYAML string // id of the user that reads keys; the operator's login
	keystone, barbican string // scheme, host and port
	kind               []string
	credential         string // id of that of a container
}

// Servers of a cloud, as Down, Up and their like take them.
const (
	Keystone = "keystone"
	Barbican = "barbican"
)

// Up starts a cloud of its own in the directory, or finds the one that runs there; kind as
// `scripts/openstack up` takes it ("--tls").
func Up(ctx context.Context, dir string, kind ...string) (*Cloud, error) {
	script, err := Script("openstack")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, script, append([]string{"up", dir}, kind...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("scripts/openstack up: %w", err)
	}
	c, err := Open(dir)
	if err == nil {
		c.kind = kind
	}
	return c, err
}

// Down ends the servers of a directory.
func (c *Cloud) Down() error {
	cmd := exec.Command(c.script, "down", c.dir)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// Open reads what `scripts/openstack up DIR` left in the directory.
func Open(dir string) (*Cloud, error) {
	script, err := Script("openstack")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, fmt.Errorf("no running cloud: %w", err)
	}
	var state struct {
		AuthURL      string            `json:"auth_url"`
		BarbicanURL  string            `json:"barbican_url"`
		CloudConfigs map[string]string `json:"cloud_configs"`
		CloudsYAML   string            `json:"clouds_yaml"`
		Reader       struct{ ID string }
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("%s/state.json: %w", dir, err)
	}
	config, err := os.ReadFile(state.CloudConfigs["application_credential_narrow"])
	if err != nil {
		return nil, err
	}
	global, _, ok := strings.Cut(string(config), "[KeyManager]")
	if !ok {
		return nil, errors.New("the cloud-config has no section KeyManager")
	}
	return &Cloud{
		dir: dir, script: script, global: global, reader: state.Reader.ID, cloudsYAML: state.CloudsYAML,
		keystone: strings.TrimSuffix(state.AuthURL, "/v3"), barbican: state.BarbicanURL,
	}, nil
}

// Global is the section of a cloud-config that reaches this cloud, with the recommended credential:
// one that can only read payloads.
func (c *Cloud) Global() string { return c.global }

// NewSecret stores a key in Barbican and returns its id. One at a time, in all processes: Barbican
// on SQLite answers 500 to those that lose the race for the database.
func (c *Cloud) NewSecret(ctx context.Context, key []byte) (string, error) {
	lock, err := os.Create(filepath.Join(c.dir, ".new-secret"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	var made struct{ ID string }
	err = c.ctlInto(ctx, &made, "secret-create", "--hex", hex.EncodeToString(key), "--name", "kek",
		"--secret-type", "symmetric", "--algorithm", "aes", "--mode", "cbc", "--bit-length", fmt.Sprint(8*len(key)))
	return made.ID, err
}

// Close makes a server refuse connections.
func (c *Cloud) Close(ctx context.Context, server string) error {
	_, err := c.ctl(ctx, "close", server)
	return err
}

// Open ends Close and returns when the server answers.
func (c *Cloud) Open(ctx context.Context, server string) error {
	_, err := c.ctl(ctx, "open", server)
	return err
}

func (c *Cloud) ctl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.script, append([]string{"ctl", c.dir}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("scripts/openstack ctl %s: %w: %s", args[0], err, stderr.String())
	}
	return out, nil
}

// Script looks for a program of the folder scripts, from here upwards.
func Script(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		script := filepath.Join(dir, "scripts", name)
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("scripts/%s is in no directory above this one", name)
		}
	}
}
