package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	kmsservice "k8s.io/kms/pkg/service"
)

// wrapped is a seed that a sidecar has wrapped.
type wrapped struct {
	seed   []byte
	answer *kmsservice.EncryptResponse
	at     time.Time
}

// fresh is how long every node must be able to unwrap one: a key is not taken away sooner than that
// after its last use.
const fresh = 5 * time.Second

// asker is the uid of these calls: as those of `barbican-kms probe --deep` they do not count as
// calls of kube-apiserver, from which rotate-key concludes what it writes with.
const asker = "probe-campaign"

// call has every sidecar wrap seeds and unwrap those of all nodes. kube-apiserver asks it seldom.
func (c *campaign) call() {
	var mu sync.Mutex
	var all []wrapped
	for i, a := range c.servers {
		service := c.direct(c.sidecars[i])
		n := 0
		c.traffic.run(a, &c.traffic.calls, func() error {
			n++
			ctx, cancel := context.WithTimeout(c.traffic.ctx, 10*time.Second)
			defer cancel()
			mu.Lock()
			all = slices.DeleteFunc(all, func(w wrapped) bool { return time.Since(w.at) > fresh })
			var pick *wrapped
			if n%2 == 1 && len(all) > 0 {
				one := all[n/2%len(all)]
				pick = &one
			}
			mu.Unlock()
			if pick == nil {
				seed := make([]byte, 32)
				_, _ = rand.Read(seed)
				answer, err := service.Encrypt(ctx, asker, seed)
				if err != nil {
					return fmt.Errorf("Encrypt: %w", err)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, wrapped{seed, answer, time.Now()})
				return nil
			}
			return unwrap(ctx, service, pick, n%10 == 1)
		})
	}
}

// unwrap must give the seed, and nothing where a bit is wrong.
func unwrap(ctx context.Context, service kmsservice.Service, w *wrapped, damage bool) error {
	request := &kmsservice.DecryptRequest{
		Ciphertext: bytes.Clone(w.answer.Ciphertext), KeyID: w.answer.KeyID, Annotations: w.answer.Annotations,
	}
	if damage {
		request.Ciphertext[int(w.seed[0])%len(request.Ciphertext)] ^= 1 << (w.seed[1] % 8)
		if _, err := service.Decrypt(ctx, asker, request); err == nil {
			return wrongAnswer{fmt.Errorf("Decrypt takes a damaged seed")}
		}
		return nil
	}
	seed, err := service.Decrypt(ctx, asker, request)
	if err != nil {
		return fmt.Errorf("Decrypt: %w", err)
	}
	if !bytes.Equal(seed, w.seed) {
		return wrongAnswer{fmt.Errorf("Decrypt gives another seed")}
	}
	return nil
}

func (tr *traffic) summary() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	excused := 0
	for _, n := range tr.excused {
		excused += n
	}
	return fmt.Sprintf("%d reads, %d writes, %d calls, %d failed, %d excused", tr.reads, tr.writes, tr.calls,
		len(tr.failures), excused+tr.lost)
}

// rows of a table of what became of the requests.
func (tr *traffic) rows() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var out strings.Builder
	fmt.Fprintf(&out, "| reads | %d |\n| writes | %d |\n| calls of Encrypt and Decrypt | %d |\n", tr.reads, tr.writes, tr.calls)
	fmt.Fprintf(&out, "| failed, with nothing to excuse it | %d |\n", len(tr.failures))
	fmt.Fprintf(&out, "| failed: on their way in a killed API server | %d |\n", tr.lost)
	for _, cause := range slices.Sorted(maps.Keys(tr.excused)) {
		fmt.Fprintf(&out, "| failed: %s | %d |\n", cause, tr.excused[cause])
	}
	return out.String()
}

func (tr *traffic) firstFailures(tell func(string)) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, failure := range tr.failures[:min(20, len(tr.failures))] {
		tell(failure)
	}
}

// sizes of a program.
type sizes struct {
	at                            time.Duration
	resident                      int // KiB
	descriptors, threads, watches int
}

func (s sizes) String() string {
	return fmt.Sprintf("%d KiB, %d descriptors, %d threads, %d watches", s.resident, s.descriptors, s.threads, s.watches)
}

// grown measures the sidecar that is never ended, and empties what its disk fills with.
func (c *campaign) grown() {
	c.t.Helper()
	s, err := measure(c.sidecars[undying].PID())
	check(c.t, err)
	s.at = time.Since(c.began)
	c.sizes = append(c.sizes, s)
	for _, n := range c.nodes {
		path := filepath.Join(n.home, "audit.log")
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		check(c.t, err)
		c.searches(path, text)
		check(c.t, os.Remove(path))
	}
}

func measure(pid int) (s sizes, err error) {
	root := fmt.Sprintf("/proc/%d/", pid)
	text, err := os.ReadFile(root + "status")
	if err != nil {
		return s, err
	}
	for name, value := range map[string]*int{"VmRSS": &s.resident, "Threads": &s.threads} {
		found := regexp.MustCompile(name + `:\s+(\d+)`).FindSubmatch(text)
		if found == nil {
			return s, fmt.Errorf("%sstatus has no %s", root, name)
		}
		*value, _ = strconv.Atoi(string(found[1]))
	}
	files, err := os.ReadDir(root + "fdinfo")
	if err != nil {
		return s, err
	}
	for _, file := range files {
		// It may be closed by now.
		about, err := os.ReadFile(root + "fdinfo/" + file.Name())
		if err == nil {
			s.descriptors++
			s.watches += bytes.Count(about, []byte("inotify wd:"))
		}
	}
	return s, nil
}

// How much more a program may have at the end than after the first rounds.
var slackOf = sizes{resident: 6 << 10, descriptors: 8, threads: 3, watches: 4}

// staysSmall compares the sizes after the warm-up with those at the end; of each the median.
func (c *campaign) staysSmall() {
	c.t.Helper()
	late := slices.DeleteFunc(slices.Clone(c.sizes), func(s sizes) bool { return s.at < warmUp })
	if len(late) < 10 {
		c.say("too short to compare sizes: %d of them after %s", len(late), warmUp)
		return
	}
	part := max(3, len(late)/4)
	first, last := medians(late[:part]), medians(late[len(late)-part:])
	c.say("the sidecar that was never ended had %s, has %s", first, last)
	if last.resident > first.resident+slackOf.resident || last.descriptors > first.descriptors+slackOf.descriptors ||
		last.threads > first.threads+slackOf.threads || last.watches > first.watches+slackOf.watches {
		c.t.Errorf("%s grows: it had %s, and has %s", c.sidecars[undying].Name, first, last)
	}
}

func medians(all []sizes) sizes {
	of := func(value func(sizes) int) int {
		var numbers []int
		for _, s := range all {
			numbers = append(numbers, value(s))
		}
		slices.Sort(numbers)
		return numbers[len(numbers)/2]
	}
	return sizes{
		resident:    of(func(s sizes) int { return s.resident }),
		descriptors: of(func(s sizes) int { return s.descriptors }),
		threads:     of(func(s sizes) int { return s.threads }),
		watches:     of(func(s sizes) int { return s.watches }),
	}
}

// learnsSecrets notes what no log may hold: the write key, and what a cloud-config logs in with.
func (c *campaign) learnsSecrets() {
	c.t.Helper()
	id := c.writeKey()
	key, err := c.cloud.Payload(c.soon(time.Minute), id)
	check(c.t, err)
	c.secrets["key "+id] = key
	for _, n := range c.nodes {
		for _, found := range regexp.MustCompile(`-(?:secret|password) *= *"([^"]+)"`).FindAllStringSubmatch(n.bench.Cloud.Global(), -1) {
			c.secrets["credential "+found[1][:4]+"..."] = []byte(found[1])
		}
	}
}

// keepsSecrets searches every log of the programs under test for what no log may hold.
func (c *campaign) keepsSecrets() {
	c.t.Helper()
	if len(c.secrets) < 2 {
		c.t.Errorf("only %d secrets to search the logs for", len(c.secrets))
	}
	searched, size := 0, 0
	check(c.t, filepath.WalkDir(c.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "openstack" {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".log") || entry.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		searched, size = searched+1, size+len(text)
		c.searches(path, text)
		return nil
	}))
	c.say("searched %d logs of %d KiB for %d secrets", searched, size>>10, len(c.secrets))
}

// searches what a program has written for what it must not write.
func (c *campaign) searches(path string, text []byte) {
	c.t.Helper()
	for what, secret := range c.secrets {
		for how, form := range forms(secret) {
			if bytes.Contains(text, form) {
				c.t.Errorf("%s holds %s, %s", path, what, how)
			}
		}
	}
	// As every token of Keystone begins.
	if bytes.Contains(text, []byte("gAAAA")) {
		c.t.Errorf("%s holds a token", path)
	}
}

func forms(secret []byte) map[string][]byte {
	return map[string][]byte{
		"as it is":           secret,
		"in hex":             []byte(hex.EncodeToString(secret)),
		"in upper-case hex":  []byte(strings.ToUpper(hex.EncodeToString(secret))),
		"in base64":          []byte(base64.RawStdEncoding.EncodeToString(secret)),
		"in base64 for URLs": []byte(base64.RawURLEncoding.EncodeToString(secret)),
		"as a list":          []byte(strings.Trim(strings.Join(strings.Fields(fmt.Sprint(secret)), ", "), "[]")),
	}
}
