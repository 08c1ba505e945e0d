package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// ServeIfAsked turns this process into one that serves a disk when Mount has started it, and returns
// otherwise.
func ServeIfAsked() {
	if len(os.Args) != 4 || os.Args[1] != word {
		return
	}
	home, size := os.Args[2], os.Args[3]
	// It ends when nobody can give orders any more.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	// The kernel has applied that of the caller.
	syscall.Umask(0)
	tell := json.NewEncoder(os.Stdout)
	s := &served{}
	s.set(Trouble{})
	if err := s.mount(home, size); err != nil {
		_ = tell.Encode(answer{Error: err.Error()})
		detach(home)
		os.Exit(1)
	}
	_ = tell.Encode(answer{})
	orders := json.NewDecoder(os.Stdin)
	for {
		var t Trouble
		if err := orders.Decode(&t); err != nil {
			break
		}
		_ = tell.Encode(answer{Met: s.set(t)})
	}
	s.set(Trouble{})
	detach(home)
	// Whoever still has a file open there gets an error from now on.
	os.Exit(0)
}

func (s *served) mount(home, size string) error {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	backing, err := hidden(home, size)
	if err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	root, err := fs.NewLoopbackRoot(backing)
	if err != nil {
		return err
	}
	// No times here: names and attributes are asked for again and again.
	s.RawFileSystem = fs.NewNodeFS(root, &fs.Options{})
	server, err := fuse.NewServer(s, home, &fuse.MountOptions{
		Name: "disk", FsName: "disk", DirectMountStrict: true, DisableXAttrs: true, DisableReadDirPlus: true,
		// The kernel would read and write the tmpfs itself.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		Logger:               log.New(os.Stderr, "disk: ", log.LstdFlags),
	})
	if err != nil {
		return fmt.Errorf("FUSE: %w", err)
	}
	go server.Serve()
	return server.WaitMount()
}

// hidden is the path of a tmpfs that nobody else sees, and that ends with this process: it is
// mounted at the directory for a moment only, and stays open.
func hidden(dir, size string) (path string, err error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,"+size); err != nil {
		return "", err
	}
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err := errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH)); err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}
