// Package link gives programs a network namespace of their own, out of which one link leads: packets
// on it can be lost, late, out of order or doubled, as on a real network. It needs root, and changes
// nothing of the machine's own network.
package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Where the servers of a test listen in the namespace, and where its programs reach them. The link
// lies between: it writes one address in the place of the other. Their sums are equal, so that the
// checksums of the packets stay right.
const (
	Server  = "10.77.0.1"
	Reached = "10.77.0.2"
	// A second host.
	OtherServer  = "10.77.0.3"
	OtherReached = "10.77.0.4"
)

// Weather is what becomes of packets, each way.
type Weather struct {
	Delay, Jitter time.Duration // a packet takes so long, and up to so much more: later ones overtake it
	Loss, Twice   int           // how many of a hundred are lost, or come twice
	Largest       int           // bytes; larger ones are lost, and nobody is told; 0 for all sizes
	Up, Down      bool          // nothing arrives at the servers, or nothing from them
}

// Link is a namespace and the way out of it.
type Link struct {
	namespace, device *os.File

	mu        sync.Mutex
	weather   Weather
	flows     map[flow]bool // the connections that were made, and whether their packets are lost
	listening map[uint16]bool
}

// New makes a namespace; the weather is fair.
func New() (*Link, error) {
	l := &Link{flows: map[flow]bool{}, listening: map[uint16]bool{}}
	err := apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("a network namespace: %w", err)
		}
		var err error
		if l.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		l.device, err = device("tun0")
		if err != nil {
			return err
		}
		return addresses(map[string]string{"lo": "127.0.0.1", "tun0": Server, "tun0:1": OtherServer})
	})
	if err != nil {
		return nil, err
	}
	go l.carry()
	return l, nil
}

// Close ends the link; the namespace ends with the last program in it.
func (l *Link) Close() {
	_ = l.device.Close()
	_ = l.namespace.Close()
}

// By is a command that starts a program in the namespace.
func (l *Link) By() []string {
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), l.namespace.Fd())}
}

// Listen is net.Listen in the namespace.
func (l *Link) Listen(network, address string) (listener net.Listener, err error) {
	err = l.inside(func() error {
		listener, err = net.Listen(network, address)
		return err
	})
	if err == nil {
		l.serves(listener.Addr())
	}
	return listener, err
}

// ListenPacket is net.ListenPacket in the namespace.
func (l *Link) ListenPacket(network, address string) (conn net.PacketConn, err error) {
	err = l.inside(func() error {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	if err == nil {
		l.serves(conn.LocalAddr())
	}
	return conn, err
}

// Dial is net.Dial in the namespace, to a program of it.
func (l *Link) Dial(network, address string) (conn net.Conn, err error) {
	err = l.inside(func() error {
		conn, err = net.DialTimeout(network, address, 10*time.Second)
		return err
	})
	return conn, err
}

// Forward makes an address of the namespace's own loopback one of the machine's.
func (l *Link) Forward(address string) (*Forward, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.forward(conn, address)
		}
	}()
	return &Forward{listener}, nil
}

// Forward is a way into a namespace.
type Forward struct{ listener net.Listener }

// Close ends it, and no connection that is open.
func (f *Forward) Close() { _ = f.listener.Close() }

func (l *Link) forward(conn net.Conn, address string) {
	defer conn.Close()
	inner, err := l.Dial("tcp", address)
	if err != nil {
		return
	}
	defer inner.Close()
	go func() {
		_, _ = io.Copy(inner, conn)
		_ = inner.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(conn, inner)
}

// Set changes the weather.
func (l *Link) Set(weather Weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.weather = weather
}

// Forget loses all that belongs to a connection of before, as a firewall does that has forgotten them:
// neither end is told.
func (l *Link) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range l.flows {
		l.flows[f] = true
	}
}

// serves notes a server's port: it tells questions from answers.
func (l *Link) serves(address net.Addr) {
	_, text, _ := net.SplitHostPort(address.String())
	port, _ := strconv.ParseUint(text, 10, 16)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listening[uint16(port)] = true
}

// inside runs f in the namespace.
func (l *Link) inside(f func() error) error {
	return apart(func() error {
		if err := unix.Setns(int(l.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// apart runs f on a thread of its own, which may change its namespace meanwhile. The thread must not
// end: the children that it has started would be killed, as they are to end with their parent.
func apart(f func() error) error {
	runtime.LockOSThread()
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer before.Close()
	err = f()
	if back := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("a thread stays in another namespace: %w", errors.Join(err, back))
	}
	runtime.UnlockOSThread()
	return err
}

// device makes a network interface whose packets are read and written here.
func device(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// addresses gives interfaces theirs, and brings them up.
func addresses(of map[string]string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for name, address := range of {
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := request.SetInet4Addr(net.ParseIP(address).To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := request.SetInet4Addr(net.IPv4(255, 255, 255, 0).To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, request); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
