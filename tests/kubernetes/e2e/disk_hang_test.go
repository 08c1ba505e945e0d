package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/disk"
	"barbican-kms/tests/kubernetes/sidecar"
)

// A held key needs no disk: calls are answered while that of the socket and the cloud-config hangs,
// and while the socket's file has to be made again on a slow one.
func TestADiskThatHangsHoldsUpNoCall(t *testing.T) {
	t.Parallel()
	needsCloud(t)
	if err := disk.Usable(); err != nil {
		t.Skip(err)
	}
	w := &world{t: t, dir: filepath.Join(rootDir, "disk-hangs")}
	w.bench = &sidecar.Bench{Bin: bench.Bin, Cloud: bench.Cloud, Apart: true}
	home := filepath.Join(w.dir, "s.t")
	check(t, os.MkdirAll(home, 0o700))
	d, err := disk.Mount(home, diskSize)
	check(t, err)
	t.Cleanup(d.Close)
	key := w.newKey()
	c := w.sidecar("s", sidecar.Settings{Write: key.ID})
	service, request := w.direct(c), sealedWith(t, key)

	// calls without a pause until the function says that it is enough
	calls := func(enough func() bool) {
		t.Helper()
		for !enough() {
			ctx, cancel := context.WithTimeout(t.Context(), slowestCall)
			_, err := service.Decrypt(ctx, "uid", request)
			cancel()
			check(t, err)
		}
	}
	lasts := func(d time.Duration) func() bool {
		end := time.Now().Add(d)
		return func() bool { return time.Now().After(end) }
	}
	trouble := func(what disk.Trouble, enough func() bool) {
		t.Helper()
		_, err := d.Set(what)
		check(t, err)
		// Nobody can end a process that waits for it.
		defer func() { _, _ = d.Set(disk.Trouble{}) }()
		calls(enough)
		met, err := d.Set(disk.Trouble{})
		check(t, err)
		if met == 0 {
			t.Errorf("nothing met the disk: %+v", what)
		}
	}
	calls(lasts(time.Millisecond))
	// The file of the socket is looked at every second.
	trouble(disk.Trouble{Hang: hangsAtMost}, lasts(3*time.Second))

	check(t, os.Remove(c.Socket))
	trouble(disk.Trouble{Delay: 300 * time.Millisecond}, func() bool {
		_, err := os.Lstat(c.Socket)
		return err == nil
	})
	check(t, c.Listening(w.soon(time.Minute)))
}
