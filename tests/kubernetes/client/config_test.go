//go:build !k8s131

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	"k8s.io/kms/pkg/service"
	"k8s.io/kms/pkg/util"

	"barbican-kms/tests/kubernetes/client/mutation"
)

// Environment variables of the differential test.
const (
	envSeed  = "BARBICAN_KMS_SEED"      // the seed of a run to repeat, or "random"
	envCount = "BARBICAN_KMS_MUTATIONS" // how many files a run makes
)

// What is printed in full; more say the same.
const mostDisagreements = 10

// `check --encryption-config` fails exactly where kube-apiserver's own loader refuses the file, or takes it
// and cannot reach any sidecar with it: for the files in testdata and for mutations of them.
func TestCheckJudgesAnEncryptionConfigAsKubeAPIServerDoes(t *testing.T) {
	if bench.StandIn() {
		t.Skip("the stand-in has no command check")
	}
	files, err := filepath.Glob("testdata/encryption-config/*")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files in testdata: %v", len(files), err)
	}
	corpus := make(map[string][]byte)
	names := make([]string, 0, len(files))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		corpus[name] = content
		names = append(names, name)
	}
	seed := uint64(20261126) // the same in every run, unless another is asked for
	if text := os.Getenv(envSeed); text == "random" {
		seed = uint64(time.Now().UnixNano())
	} else if text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
	}
	count := 4000
	if text := os.Getenv(envCount); text != "" {
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", envCount, err)
		}
	}
	t.Logf("%s=%d", envSeed, seed)

	judge := newJudge(t)
	cases := make(chan testCase)
	var tried, taken atomic.Int64
	var mutex sync.Mutex
	var disagreements []string
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		dir := t.TempDir()
		workers.Go(func() {
			for c := range cases {
				tried.Add(1)
				loader, ours := judge.loader(dir, c.content), judge.check(dir, c.content)
				if loader == nil {
					taken.Add(1)
				}
				if (loader == nil) == (ours == nil) {
					continue
				}
				mutex.Lock()
				disagreements = append(disagreements, fmt.Sprintf(
					"%s: kube-apiserver: %v\ncheck: %v\n%q\n%s", c.name, loader, ours, c.content, c.content))
				mutex.Unlock()
			}
		})
	}
	// Most mutations are of files that work: one fault hides all others.
	var working []string
	dir := t.TempDir()
	for _, name := range names {
		cases <- testCase{name, corpus[name]}
		if judge.loader(dir, corpus[name]) == nil {
			working = append(working, name)
		}
	}
	// One generator for each file, so that one alone can be repeated.
	for i := range count {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		from := working
		if rng.IntN(6) == 0 {
			from = names
		}
		name := from[rng.IntN(len(from))]
		cases <- testCase{fmt.Sprintf("mutation %d of %s", i, name), mutation.Of(rng, corpus[name])}
	}
	close(cases)
	workers.Wait()

	t.Logf("%d files, of which kube-apiserver can work with %d", tried.Load(), taken.Load())
	if n := taken.Load(); count > 1000 && (n < tried.Load()/10 || n > tried.Load()*9/10) {
		t.Errorf("the mutations are no test: nearly all files are of one kind")
	}
	if n := len(disagreements); n > 0 {
		t.Errorf("%d of %d files are judged otherwise; repeat it with %s=%d\n%s", n, tried.Load(), envSeed, seed,
			strings.Join(disagreements[:min(n, mostDisagreements)], "\n----\n"))
	}
}

type testCase struct {
	name    string
	content []byte
}

// judge asks both sides about a file.
type judge struct {
	bin string
}

type contextKey struct{}

// newJudge makes the loader's KMS clients, as its own factory does, but lets none of them wait for an answer.
func newJudge(t *testing.T) *judge {
	t.Helper()
	real := encryptionconfig.EnvelopeKMSv2ServiceFactory
	t.Cleanup(func() { encryptionconfig.EnvelopeKMSv2ServiceFactory = real })
	encryptionconfig.EnvelopeKMSv2ServiceFactory = func(ctx context.Context, endpoint, name string, timeout time.Duration) (service.Service, error) {
		stop, ok := ctx.Value(contextKey{}).(*error)
		if !ok {
			return real(ctx, endpoint, name, timeout)
		}
		if _, err := kmsv2.NewGRPCService(ctx, endpoint, name, timeout); err != nil {
			return nil, err
		}
		if err := leadsNowhere(endpoint); err != nil {
			*stop = err
		}
		return silent{}, nil
	}
	return &judge{bin: bench.Bin}
}

// loader says why kube-apiserver does not start with the file, or could not work with it.
func (j *judge) loader(dir string, content []byte) error {
	file := filepath.Join(dir, "loader.yaml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		panic(err)
	}
	var stop error
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), contextKey{}, &stop))
	defer cancel()
	if _, err := encryptionconfig.LoadEncryptionConfig(ctx, file, true, "test"); err != nil {
		return err
	}
	return stop
}

// check says what `check` finds wrong with the file.
func (j *judge) check(dir string, content []byte) error {
	file := filepath.Join(dir, "check.yaml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		panic(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(j.bin, "check", "--json", "--encryption-config", file)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var report struct {
		OK    bool
		Steps []struct{ Name, Outcome, Found, Fix string }
	}
	if jsonErr := json.Unmarshal(stdout.Bytes(), &report); jsonErr != nil {
		panic(fmt.Sprintf("%v, %v: %s%s%s", err, jsonErr, stdout.String(), stderr.String(), content))
	}
	if report.OK != (err == nil) {
		panic(fmt.Sprintf("exit status and report differ: %v, %s", err, stdout.String()))
	}
	if report.OK {
		return nil
	}
	var found []string
	for _, step := range report.Steps {
		if step.Outcome == "failed" {
			if step.Found == "" || step.Fix == "" {
				panic("a failure without words: " + stdout.String())
			}
			found = append(found, step.Found)
		}
	}
	return errors.New(strings.Join(found, "; "))
}

// leadsNowhere says why no sidecar can be reached at an endpoint that kube-apiserver takes. Of the URL it
// takes the path: with a host, that is not the path that somebody wrote.
func leadsNowhere(endpoint string) error {
	parsed, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	if host := parsed.Host; host != "" && host != "localhost" || parsed.User != nil {
		return fmt.Errorf("%q: the host %q is ignored", endpoint, host)
	}
	socket, err := util.ParseEndpoint(endpoint)
	if err != nil {
		return err
	}
	if strings.HasPrefix(socket, "@") {
		return nil
	}
	if !path.IsAbs(socket) {
		return fmt.Errorf("%q: the path %q is not absolute", endpoint, socket)
	}
	if last := socket[strings.LastIndex(socket, "/")+1:]; last == "" || last == "." || last == ".." {
		return fmt.Errorf("%q: the path %q is a directory's", endpoint, socket)
	}
	if len(socket) > 107 {
		return fmt.Errorf("%q: the path is too long for a socket", endpoint)
	}
	return nil
}

// silent is a KMS client that reaches nobody, at once.
type silent struct{}

var errSilent = errors.New("nobody is there")

func (silent) Decrypt(context.Context, string, *service.DecryptRequest) ([]byte, error) {
	return nil, errSilent
}

func (silent) Encrypt(context.Context, string, []byte) (*service.EncryptResponse, error) {
	return nil, errSilent
}

func (silent) Status(context.Context) (*service.StatusResponse, error) {
	return nil, errSilent
}
