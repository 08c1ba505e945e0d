package disk

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const envVictim = "DISK_VICTIM" // the path of a disk for a process that is to be killed

func TestMain(m *testing.M) {
	ServeIfAsked()
	if home := os.Getenv(envVictim); home != "" {
		waitForEver(home)
	}
	os.Exit(m.Run())
}

func mounted(t *testing.T) (*Disk, string) {
	t.Helper()
	if err := Usable(); err != nil {
		t.Skip(err)
	}
	home := filepath.Join(t.TempDir(), "home")
	d, err := Mount(home, "size=1m,nr_inodes=48")
	check(t, err)
	t.Cleanup(d.Close)
	return d, home
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestItHoldsFilesUntilItIsFull(t *testing.T) {
	_, home := mounted(t)
	path := filepath.Join(home, "file")
	check(t, os.WriteFile(path+".new", []byte("one"), 0o600))
	check(t, os.Rename(path+".new", path))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	defer file.Close()
	for range 3 {
		_, err = file.WriteString("two")
		check(t, err)
	}
	if text, err := os.ReadFile(path); string(text) != "onetwotwotwo" {
		t.Errorf("%q, %v", text, err)
	}
	check(t, os.Remove(path))
	_, err = os.Stat(path)
	wants(t, "a removed file", err, os.ErrNotExist)

	wants(t, "2 MiB", os.WriteFile(path, make([]byte, 2<<20), 0o600), syscall.ENOSPC)
	check(t, os.Remove(path))
	for n := 0; err == nil || errors.Is(err, os.ErrNotExist); n++ {
		err = os.WriteFile(fmt.Sprint(path, n), nil, 0o600)
		if n > 48 {
			break
		}
	}
	wants(t, "a file too many", err, syscall.ENOSPC)
}

func TestASocketIsFoundAndAChangeIsNotified(t *testing.T) {
	_, home := mounted(t)
	watch, err := syscall.InotifyInit()
	check(t, err)
	defer syscall.Close(watch)
	_, err = syscall.InotifyAddWatch(watch, home, syscall.IN_MOVED_TO)
	check(t, err)

	path := filepath.Join(home, "kms.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + ".new"})
	check(t, err)
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	check(t, os.Chmod(path+".new", 0o600))
	check(t, os.Rename(path+".new", path))
	for range 3 {
		conn, err := net.Dial("unix", path)
		check(t, err)
		check(t, conn.Close())
	}
	events := make([]byte, 4096)
	n, err := syscall.Read(watch, events)
	check(t, err)
	if !bytes.Contains(events[:n], []byte("kms.sock\x00")) {
		t.Errorf("notified: %q", events[:n])
	}
}

func TestNoCacheHidesItsTrouble(t *testing.T) {
	d, home := mounted(t)
	path := filepath.Join(home, "file")
	check(t, os.WriteFile(path, []byte("text"), 0o600))
	open, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer open.Close()
	read := func() error { _, err := open.ReadAt(make([]byte, 4), 0); return err }
	write := func() error { _, err := open.WriteAt([]byte("text"), 0); return err }
	look := func() error { _, err := os.Lstat(path); return err }
	operations := map[string]func() error{"read": read, "write": write, "look": look}
	for fail, failing := range map[Fail]string{
		Nothing: "", Reads: "read", Writes: "write", Everything: "read write look",
	} {
		_, err := d.Set(Trouble{Fail: fail})
		check(t, err)
		for name, operation := range operations {
			if err, want := operation(), strings.Contains(failing, name); errors.Is(err, syscall.EIO) != want {
				t.Errorf("%s, where %q fails: %v", name, fail, err)
			}
		}
	}
	for name, operation := range operations {
		_, err := d.Set(Trouble{Delay: 100 * time.Millisecond})
		check(t, err)
		began := time.Now()
		check(t, operation())
		if took := time.Since(began); took < 100*time.Millisecond {
			t.Errorf("%s takes %s on a slow disk", name, took)
		}
		met, err := d.Set(Trouble{Hang: time.Minute})
		check(t, err)
		if met == 0 {
			t.Errorf("%s met no slow disk", name)
		}
		ended := make(chan error)
		go func() { ended <- operation() }()
		select {
		case <-ended:
			t.Errorf("%s ends on a hanging disk", name)
		case <-time.After(100 * time.Millisecond):
			_, err = d.Set(Trouble{})
			check(t, err)
			check(t, <-ended)
		}
	}
}

// A process that is killed while it waits for its own disk leaves nothing.
func TestItEndsWithAKilledProcess(t *testing.T) {
	if err := Usable(); err != nil {
		t.Skip(err)
	}
	home := filepath.Join(t.TempDir(), "home")
	self, err := os.Executable()
	check(t, err)
	victim := exec.Command(self)
	victim.Env = append(os.Environ(), envVictim+"="+home)
	said, err := victim.StdoutPipe()
	check(t, err)
	check(t, victim.Start())
	_, err = said.Read(make([]byte, 1))
	check(t, err)
	// Time for its call to get to the disk.
	time.Sleep(200 * time.Millisecond)
	check(t, victim.Process.Kill())
	_ = victim.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		mounts, err := os.ReadFile("/proc/self/mounts")
		check(t, err)
		if !bytes.Contains(mounts, []byte(home)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still mounted: %s", mounts)
		}
	}
}

func waitForEver(home string) {
	d, err := Mount(home, "size=1m")
	if err == nil {
		_, err = d.Set(Trouble{Hang: 2 * time.Second})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println()
	for {
		_, _ = os.Stat(filepath.Join(home, "nothing"))
	}
}
