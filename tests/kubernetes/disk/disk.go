// Package disk is a small disk that can be slow, hang or fail on request: a tmpfs, and over it a
// file system in user space (FUSE) that passes everything on.
//
// A process of its own serves it. One that waits for a file system which it serves itself cannot be
// killed: nobody is left to answer it.
package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Trouble is what is wrong with a disk; the zero one is a fair disk.
type Trouble struct {
	// Delay of every operation.
	Delay time.Duration
	// Hang is how long at most no operation ends. It has a limit, because nothing can end a process
	// that waits for a disk.
	Hang time.Duration
	Fail Fail
}

// Fail says which operations end with EIO.
type Fail string

// The kinds.
const (
	Nothing    Fail = ""
	Reads      Fail = "reads"  // of what is in files and directories
	Writes     Fail = "writes" // of anything
	Everything Fail = "everything"
)

// Disk is one that is mounted.
type Disk struct {
	home    string
	cmd     *exec.Cmd
	orders  io.WriteCloser
	asks    *json.Encoder
	answers *json.Decoder
}

// answer to the order to change the trouble, and to the start.
type answer struct {
	Error string
	Met   int // operations that the trouble before this one has met
}

// The first argument of the process that serves a disk.
const word = "serve-disk"

// Usable says why there can be no such disk here.
func Usable() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root to mount a disk")
	}
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("needs FUSE: %w", err)
	}
	return device.Close()
}

// Mount puts a disk at the path, of a size as the options of a tmpfs have it. It ends with this
// process, however that ends. The program must call ServeIfAsked first.
func Mount(home, size string) (*Disk, error) {
	d := &Disk{home: home}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d.cmd = exec.Command(self, word, home, size)
	d.cmd.Stderr = os.Stderr
	// A signal from the terminal is for the test, which ends this one.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if d.orders, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	said, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	d.asks, d.answers = json.NewEncoder(d.orders), json.NewDecoder(said)
	if _, err := d.hear(); err != nil {
		d.Close()
		return nil, fmt.Errorf("disk at %s: %w", home, err)
	}
	return d, nil
}

// Set changes what is wrong, also for who waits already. It returns how many operations have met
// what was wrong before.
func (d *Disk) Set(t Trouble) (met int, err error) {
	if err := d.asks.Encode(t); err != nil {
		return 0, err
	}
	return d.hear()
}

func (d *Disk) hear() (met int, err error) {
	var a answer
	if err := d.answers.Decode(&a); err != nil {
		return 0, fmt.Errorf("the disk's process: %w", err)
	}
	if a.Error != "" {
		return 0, errors.New(a.Error)
	}
	return a.Met, nil
}

// Close unmounts the disk; what is on it is lost.
func (d *Disk) Close() {
	_ = d.orders.Close()
	late := time.AfterFunc(10*time.Second, func() { _ = d.cmd.Process.Kill() })
	_ = d.cmd.Wait()
	late.Stop()
	// Where it was killed.
	detach(d.home)
}

func detach(home string) { _ = syscall.Unmount(home, syscall.MNT_DETACH) }
