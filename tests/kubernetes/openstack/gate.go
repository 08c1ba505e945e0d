package openstack

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Outage is what becomes of connections to a server that is away.
type Outage string

// The kinds. Each ends at the moment when Gate.Open is called.
const (
	Refused Outage = "refused"
	Silent  Outage = "silent"     // taken, and nothing ever comes
	Empty   Outage = "503"        // a load balancer without servers
	Unnamed Outage = "no address" // its name does not resolve; for a gate with a name
	none    Outage = ""
)

// Gate is a cloud whose Keystone can be taken away and brought back at a known moment.
type Gate struct {
	*Cloud

	address, target string
	names           string // the file of names, for a gate with a name

	mu       sync.Mutex
	outage   Outage
	listener net.Listener
	open     []net.Conn // end with the state that they were made in
	silent   []net.Conn // stay so
}

// Gate puts one before Keystone. It is open; Close ends it.
func (c *Cloud) Gate() (*Gate, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &Gate{
		address:  listener.Addr().String(),
		target:   strings.TrimPrefix(c.keystone, "http://"),
		listener: listener,
	}
	if g.Cloud, err = c.reachedAt("http://" + g.address); err != nil {
		return nil, err
	}
	go g.serve(listener)
	return g, nil
}

// reachedAt is the same cloud with another address of Keystone.
func (c *Cloud) reachedAt(keystone string) (*Cloud, error) {
	other := *c
	other.global = strings.ReplaceAll(c.global, c.keystone, keystone)
	if other.global == c.global {
		return nil, fmt.Errorf("the cloud-config does not name %s", c.keystone)
	}
	other.keystone = keystone
	return &other, nil
}

// keystoneName is known to nobody but the file of names of a gate.
const keystoneName = "keystone.example.test"

// UseName makes the cloud-config reach Keystone by a name, which only programs resolve that are
// started by the command that it returns: in a mount namespace of their own, as root. The files for
// it go to the directory.
func (g *Gate) UseName(dir string) (command []string, err error) {
	_, port, err := net.SplitHostPort(g.address)
	if err != nil {
		return nil, err
	}
	if g.Cloud, err = g.reachedAt("http://" + net.JoinHostPort(keystoneName, port)); err != nil {
		return nil, err
	}
	g.names = filepath.Join(dir, "hosts")
	// Nobody listens on port 53 of this address.
	servers := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(servers, []byte("nameserver 127.53.53.53\n"), 0o644); err != nil {
		return nil, err
	}
	return inNamesOf(g.names, servers), g.Open()
}

// writeNames writes in place: the file is mounted.
func (g *Gate) writeNames() error {
	if g.names == "" {
		return nil
	}
	names := "127.0.0.1 localhost\n"
	if g.outage != Unnamed {
		names += "127.0.0.1 " + keystoneName + "\n"
	}
	return os.WriteFile(g.names, []byte(names), 0o644)
}

// Shut begins an outage.
func (g *Gate) Shut(outage Outage) error { return g.set(outage) }

// Open ends it.
func (g *Gate) Open() error { return g.set(none) }

// Close ends the gate.
func (g *Gate) Close() {
	_ = g.set(Refused)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range g.silent {
		_ = conn.Close()
	}
}

func (g *Gate) set(outage Outage) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.outage = outage
	if err := g.writeNames(); err != nil {
		return err
	}
	for _, conn := range g.open {
		_ = conn.Close()
	}
	g.open = nil
	if outage == Refused || outage == Unnamed {
		if g.listener != nil {
			_ = g.listener.Close()
			g.listener = nil
		}
		return nil
	}
	if g.listener == nil {
		listener, err := net.Listen("tcp", g.address)
		if err != nil {
			return err
		}
		g.listener = listener
		go g.serve(listener)
	}
	return nil
}

func (g *Gate) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		switch g.outage {
		case none:
			g.open = append(g.open, conn)
			go pass(conn, g.target)
		case Silent:
			g.silent = append(g.silent, conn)
		default:
			g.open = append(g.open, conn)
			go noServer(conn)
		}
		g.mu.Unlock()
	}
}

func pass(conn net.Conn, target string) {
	defer conn.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, conn)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(conn, server)
}

func noServer(conn net.Conn) {
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 4096)); err == nil {
		_, _ = io.WriteString(conn,
			"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}
}
