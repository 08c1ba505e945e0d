// Package proc starts the servers of a test as child processes: output to a file, an end that is
// asked for first and enforced after, and no orphan when the test dies.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Process is a running child, or one that an earlier process of ours has left behind.
type Process struct {
	Name string
	// Log holds what the process wrote to both streams, over all of its starts.
	Log string

	handle *os.Process
	done   chan struct{}
	code   int
}

// Options say how to start one.
type Options struct {
	Name string
	Bin  string
	Args []string
	Env  []string // added to ours
	Dir  string   // for the log file
	// Detach lets it outlive this process.
	Detach bool
}

// ErrKilled reports a process that did not end when it was asked to.
var ErrKilled = errors.New("did not end in time and was killed")

// Start runs the program; its output is appended to Dir/Name.log.
func Start(o Options) (*Process, error) {
	path := o.log()
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(o.Bin, o.Args...)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !o.Detach {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	p := &Process{Name: o.Name, Log: path, handle: cmd.Process, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
		p.code = cmd.ProcessState.ExitCode()
	}()
	return p, nil
}

func (o Options) log() string { return filepath.Join(o.Dir, o.Name+".log") }

// Adopt takes up a detached process by its id, as long as it still runs the same program; its exit
// code stays unknown.
func Adopt(o Options, pid int) (*Process, error) {
	if !runs(pid, o.Bin) {
		return nil, fmt.Errorf("%s (process %d) does not run any more", o.Name, pid)
	}
	handle, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: o.Name, Log: o.log(), handle: handle, done: make(chan struct{}), code: -1}
	go func() {
		defer close(p.done)
		for runs(pid, o.Bin) {
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return p, nil
}

// runs says whether the process exists and is that program; a zombie has no program.
func runs(pid int, program string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	name, _, _ := bytes.Cut(line, []byte{0})
	return string(name) == program
}

// PID of the process.
func (p *Process) PID() int { return p.handle.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive says whether it still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends one signal to the process.
func (p *Process) Signal(s syscall.Signal) error { return p.handle.Signal(s) }

// Stop asks the process to end and waits for it; one that ended before is no error.
func (p *Process) Stop(within time.Duration) error {
	if !p.Alive() {
		return nil
	}
	_ = p.Signal(syscall.SIGCONT)
	_ = p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s: %w", p.Name, ErrKilled)
	}
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() {
	_ = p.handle.Kill()
	<-p.done
}

// ExitCode of a process that has ended; -1 for one that a signal ended or that was adopted.
func (p *Process) ExitCode() int {
	<-p.done
	return p.code
}

// Tail returns the last bytes of the log, for the message of a failed test.
func (p *Process) Tail() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	const keep = 2000
	if len(b) > keep {
		b = b[len(b)-keep:]
	}
	return string(b)
}

// LogCount counts the lines of the log that hold the text.
func (p *Process) LogCount(text string) int {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return 0
	}
	n := 0
	for _, line := range bytes.Split(b, []byte("\n")) {
		if bytes.Contains(line, []byte(text)) {
			n++
		}
	}
	return n
}
