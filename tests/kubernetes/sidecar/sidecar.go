// Package sidecar starts the program under test: the real barbican-kms with keys in a real
// Barbican, or, where neither is given, a stand-in with keys made up here.
package sidecar

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/openstack"
	"barbican-kms/tests/kubernetes/proc"
)

// Bench is where sidecars run.
type Bench struct {
	Bin string
	// Cloud holds the keys; nil makes the program the stand-in.
	Cloud *openstack.Cloud
	// By is a command that starts the program given to it; nil starts it as it is.
	By []string
	// Apart gives each sidecar a directory of its own, NAME.t, for socket, config and what else it
	// writes; its log lies outside.
	Apart bool
	Args  []string // more of them for serve
	Env   []string
}

// Key is a KEK.
type Key struct {
	ID    string
	Bytes []byte
}

// Environment variables that choose the program and the cloud.
const (
	EnvBin       = "BARBICAN_KMS_BIN"       // the binary under test; unset: the stand-in
	EnvOpenStack = "BARBICAN_KMS_OPENSTACK" // the directory that `scripts/openstack up` was given
)

// Open finds the program that the environment names; without one it is the stand-in, which is this
// very executable (see ServeIfAsked).
func Open() (*Bench, error) {
	bin := os.Getenv(EnvBin)
	if bin == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%s is not set: testing the stand-in, with made-up keys\n", EnvBin)
		return &Bench{Bin: self}, nil
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvBin, err)
	}
	cloudDir := os.Getenv(EnvOpenStack)
	if cloudDir == "" {
		return nil, fmt.Errorf("%s is set, so %s must name the directory of `scripts/openstack up`", EnvBin, EnvOpenStack)
	}
	cloud, err := openstack.Open(cloudDir)
	if err != nil {
		return nil, err
	}
	return &Bench{Bin: bin, Cloud: cloud}, nil
}

// StandIn says that the program is not the real one.
func (b *Bench) StandIn() bool { return b.Cloud == nil }

// NewKey makes a 256-bit AES key, in Barbican where there is one.
func (b *Bench) NewKey(ctx context.Context) (Key, error) {
	if b.Cloud == nil {
		id := UUID()
		return Key{ID: id, Bytes: StandInKey(id)}, nil
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return Key{}, err
	}
	id, err := b.Cloud.NewSecret(ctx, key)
	return Key{ID: id, Bytes: key}, err
}

// MissingKey is the id of a key that does not exist.
func (b *Bench) MissingKey() string { return standInMissing + UUID()[len(standInMissing):] }

// standInMissing begins the ids that the stand-in has no key for.
const standInMissing = "00000000"

// StandInKey is the key that the stand-in holds under an id, nil for an id that it has not.
func StandInKey(id string) []byte {
	if strings.HasPrefix(id, standInMissing) {
		return nil
	}
	sum := sha256.Sum256([]byte("stand-in " + id))
	return sum[:]
}

// UUID makes a random identifier in the form of Barbican's.
func UUID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Settings are what a test changes in the cloud-config.
type Settings struct {
	Write string
	// Container lists the keys, instead of Write.
	Container   string
	Decrypt     []string
	Suffix      string
	Revalidate  time.Duration
	MaxCacheAge time.Duration
	// Endpoint is Barbican's address, instead of the catalog's.
	Endpoint string
}

// WriteConfig puts a cloud-config at the path, whole or not at all.
func (b *Bench) WriteConfig(path string, s Settings) error {
	return proc.WriteWhole(path, []byte(b.CloudConfig(s)))
}

// CloudConfig is the text of one.
func (b *Bench) CloudConfig(s Settings) string {
	var out strings.Builder
	if b.Cloud != nil {
		out.WriteString(b.Cloud.Global())
	} else {
		out.WriteString("[Global]\nauth-url = \"https://keystone.invalid/v3\"\n")
	}
	out.WriteString("\n[KeyManager]\n")
	if s.Container != "" {
		fmt.Fprintf(&out, "key-container = %q\n", s.Container)
	} else {
		fmt.Fprintf(&out, "key-id = %q\n", s.Write)
	}
	if len(s.Decrypt) > 0 {
		fmt.Fprintf(&out, "decrypt-key-ids = %q\n", strings.Join(s.Decrypt, ","))
	}
	if s.Suffix != "" {
		fmt.Fprintf(&out, "key-id-suffix = %q\n", s.Suffix)
	}
	if s.Revalidate != 0 {
		fmt.Fprintf(&out, "revalidate-interval = %q\n", s.Revalidate.String())
	}
	if s.MaxCacheAge != 0 {
		fmt.Fprintf(&out, "max-cache-age = %q\n", s.MaxCacheAge.String())
	}
	if s.Endpoint != "" {
		fmt.Fprintf(&out, "key-manager-endpoint = %q\n", s.Endpoint)
	}
	return out.String()
}

// Sidecar is one running program with its socket and config.
type Sidecar struct {
	*proc.Process
	Socket string
	Config string

	bench   *Bench
	options proc.Options
}

// New names a sidecar that is not running yet. Socket, config and log go to dir.
func (b *Bench) New(dir, name string, s Settings) (*Sidecar, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The config has a directory of its own, as in the pod.
	configs := filepath.Join(dir, name+".d")
	if b.Apart {
		configs = filepath.Join(dir, name+".t")
	}
	if err := os.MkdirAll(configs, 0o700); err != nil {
		return nil, err
	}
	c := &Sidecar{
		Socket: b.socketPath(dir, name),
		Config: filepath.Join(configs, "cloud.conf"),
		bench:  b,
	}
	if len(c.Socket) > 107 {
		return nil, fmt.Errorf("the socket path %q is longer than a unix address", c.Socket)
	}
	c.options = proc.Options{Name: name, Dir: dir, Env: b.Env}
	c.Use(b.Bin)
	return c, b.WriteConfig(c.Config, s)
}

// Use makes the next Start run another build of the program.
func (c *Sidecar) Use(bin string) {
	command := append(slices.Clone(c.bench.By), bin, "serve", "--socketpath", c.Socket, "--cloud-config", c.Config)
	command = append(command, c.bench.Args...)
	c.options.Bin, c.options.Args = command[0], command[1:]
}

// Status is what the sidecar says of its ring.
type Status struct {
	WriteKeyID string `json:"write_key_id"`
	Ready      bool
	Keys       []struct {
		ID string
		// Listed: by the container, now.
		Held, Listed bool
		// SecretGone: deleted in Barbican, and so kept until the process ends.
		SecretGone bool `json:"secret_gone"`
		// Problem with confirming it, since it was last confirmed; empty for none.
		Problem          string
		ConfirmedSeconds *int `json:"confirmed_seconds_ago"`
	}
	Ring          struct{ Problem string }
	Configuration Configuration
}

// Configuration is what it says of its files.
type Configuration struct {
	LastReload struct{ Outcome string } `json:"last_reload"`
	Reloads    Reloads
}

// Reloads counts them.
type Reloads struct{ Applied, Unchanged int }

// Good ones.
func (r Reloads) Good() int { return r.Applied + r.Unchanged }

// Good says that the files are what is in use.
func (c Configuration) Good() bool {
	return slices.Contains([]string{"", "applied", "unchanged"}, c.LastReload.Outcome)
}

// IDs of its keys.
func (s Status) IDs() (ids []string) {
	for _, key := range s.Keys {
		ids = append(ids, key.ID)
	}
	return ids
}

// StatusCommand asks a sidecar of the directory for its Status.
func (b *Bench) StatusCommand(dir, name string) []string {
	return []string{b.Bin, "status", "--json", "--socketpath", b.socketPath(dir, name)}
}

func (b *Bench) socketPath(dir, name string) string {
	if b.Apart {
		return filepath.Join(dir, name+".t", "kms.sock")
	}
	return filepath.Join(dir, name+".sock")
}

// Status asks it.
func (c *Sidecar) Status(ctx context.Context) (Status, error) {
	command := c.bench.StatusCommand(c.options.Dir, c.Name)
	var status Status
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	if err != nil {
		return status, fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return status, json.Unmarshal(out, &status)
}

// Detach makes the next Start outlive this process.
func (c *Sidecar) Detach() { c.options.Detach = true }

// Start runs the program; it does not wait for anything.
func (c *Sidecar) Start() error {
	p, err := proc.Start(c.options)
	if err != nil {
		return err
	}
	c.Process = p
	return nil
}

// Endpoint is the socket as an EncryptionConfiguration names it.
func (c *Sidecar) Endpoint() string { return "unix://" + c.Socket }

// Configure writes new settings and has them taken up.
func (c *Sidecar) Configure(s Settings) error {
	if err := c.bench.WriteConfig(c.Config, s); err != nil {
		return err
	}
	if c.Process == nil || !c.Alive() {
		return nil
	}
	return c.Signal(syscall.SIGHUP)
}

// Listening waits until somebody accepts on the socket.
func (c *Sidecar) Listening(ctx context.Context) error {
	for {
		conn, err := net.Dial("unix", c.Socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-c.Done():
			return fmt.Errorf("%s ended with code %d before it listened:\n%s", c.Name, c.ExitCode(), c.Tail())
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ForTest starts a sidecar that ends with the test.
func (b *Bench) ForTest(t testing.TB, dir, name string, s Settings) *Sidecar {
	t.Helper()
	c, err := b.New(dir, name, s)
	if err != nil {
		t.Fatal(err)
	}
	c.MustStart(t)
	return c
}

// MustStart starts it and waits until it listens; the test's end stops it.
func (c *Sidecar) MustStart(t testing.TB) {
	t.Helper()
	t.Cleanup(func() { c.end(t) })
	if err := c.startListening(); err != nil {
		t.Fatal(err)
	}
}

// StartLater calls at and starts it after a while; the test's end stops it. The function that it
// returns waits until it listens, and fails the test where it does not.
func (c *Sidecar) StartLater(t testing.TB, after time.Duration, at func()) (started func()) {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-t.Context().Done():
		case <-time.After(after):
			at()
			err = c.startListening()
		}
	}()
	t.Cleanup(func() {
		<-done
		c.end(t)
	})
	return func() {
		t.Helper()
		<-done
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (c *Sidecar) startListening() error {
	if err := c.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.Listening(ctx)
}

func (c *Sidecar) end(t testing.TB) {
	if c.Process == nil {
		return
	}
	if t.Failed() {
		t.Logf("the log of %s ends:\n%s", c.Name, c.Tail())
	}
	if err := c.Stop(10 * time.Second); err != nil {
		t.Errorf("%v; its log ends:\n%s", err, c.Tail())
	}
}
