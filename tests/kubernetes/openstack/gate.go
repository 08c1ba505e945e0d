package openstack

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// Outage is what becomes of connections to a server that is away.
type Outage string

// The kinds. Each ends at the moment when Gate.Open is called.
const (
	Refused Outage = "refused"
	Silent  Outage = "silent" // taken, and nothing ever comes
	Empty   Outage = "503"    // a load balancer without servers
	none    Outage = ""
)

// Gate is a cloud whose Keystone can be taken away and brought back at a known moment.
type Gate struct {
	*Cloud

	address, target string

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
	gated := *c
	gated.global = strings.ReplaceAll(c.global, c.keystone, "http://"+g.address)
	if gated.global == c.global {
		return nil, fmt.Errorf("the cloud-config does not name %s", c.keystone)
	}
	g.Cloud = &gated
	go g.serve(listener)
	return g, nil
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
	for _, conn := range g.open {
		_ = conn.Close()
	}
	g.open = nil
	if outage == Refused {
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
