package openstack

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Weather is what a wire does to what goes over it. It is the weather of TCP, not of packets: what
// a network loses arrives late, because TCP sends it again.
type Weather struct {
	Delay time.Duration // of each piece, each way
	// Loss is how many of a hundred pieces are sent again, after a second at most.
	Loss int
	// Up and Down cut one way, towards the server and back: nothing arrives, nobody is told.
	Up, Down bool
	// Slow lets this many bytes a second through each way; 0 for all.
	Slow int
	// Garbled is how many of a hundred pieces come with a wrong byte.
	Garbled int
	// Refuse takes no connections, and ends those that there are.
	Refuse bool
}

// Wire is the way from one node to one server. It can be disturbed while it is in use.
type Wire struct {
	address, target string
	place           Place

	mu       sync.Mutex
	weather  Weather
	changed  chan struct{} // closed by the next change
	listener net.Listener
	open     map[net.Conn]bool
}

// piece is how much goes over a wire at once.
const piece = 1400

// Place is a network in which something can listen, and where others find it there.
type Place struct {
	Server, Reached           string // addresses
	OtherServer, OtherReached string // of a second host
	Listen                    func(network, address string) (net.Listener, error)
	ListenPacket              func(network, address string) (net.PacketConn, error)
}

// Loopback is the network of this machine.
var Loopback = Place{Server: "127.0.0.1", Reached: "127.0.0.1", Listen: net.Listen}

// NewWire lays one to a server of this host and port, as the address says; the weather is fair.
func NewWire(target string, from Place) (*Wire, error) {
	listener, err := from.Listen("tcp", from.Server+":0")
	if err != nil {
		return nil, err
	}
	w := &Wire{
		address: listener.Addr().String(), target: target, place: from, listener: listener,
		changed: make(chan struct{}), open: map[net.Conn]bool{},
	}
	go w.serve(listener)
	return w, nil
}

// Port is where it begins.
func (w *Wire) Port() string {
	_, port, _ := net.SplitHostPort(w.address)
	return port
}

// Set changes the weather, also for the connections that are open.
func (w *Wire) Set(weather Weather) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.weather = weather
	close(w.changed)
	w.changed = make(chan struct{})
	switch {
	case weather.Refuse && w.listener != nil:
		_ = w.listener.Close()
		w.listener = nil
		w.endAll()
	case !weather.Refuse && w.listener == nil:
		listener, err := w.place.Listen("tcp", w.address)
		if err != nil {
			return err
		}
		w.listener = listener
		go w.serve(listener)
	}
	return nil
}

// Reset ends the open connections, as a firewall that forgot them does.
func (w *Wire) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endAll()
}

func (w *Wire) endAll() {
	for conn := range w.open {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

// Close ends the wire.
func (w *Wire) Close() { _ = w.Set(Weather{Refuse: true}) }

func (w *Wire) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go w.carry(conn)
		}
	}
}

func (w *Wire) carry(conn net.Conn) {
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		return
	}
	w.note(true, conn, server)
	var both sync.WaitGroup
	both.Go(func() { w.pump(server, conn, true) })
	both.Go(func() { w.pump(conn, server, false) })
	both.Wait()
	w.note(false, conn, server)
	_ = conn.Close()
	_ = server.Close()
}

func (w *Wire) note(open bool, conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range conns {
		if open {
			w.open[conn] = true
		} else {
			delete(w.open, conn)
		}
	}
}

func (w *Wire) pump(to, from net.Conn, up bool) {
	buffer := make([]byte, piece)
	for {
		n, err := from.Read(buffer)
		w.endure(buffer[:n], up)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				// Whoever still sends learns it.
				_ = from.Close()
				return
			}
		}
		if err != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// endure takes as long as the weather makes it take.
func (w *Wire) endure(data []byte, up bool) {
	now, changed := w.now()
	for up && now.Up || !up && now.Down {
		<-changed
		now, changed = w.now()
	}
	pause := now.Delay
	if rand.IntN(100) < now.Loss {
		pause += 200*time.Millisecond + rand.N(800*time.Millisecond)
	}
	if now.Slow > 0 {
		pause += time.Duration(len(data)) * time.Second / time.Duration(now.Slow)
	}
	if pause > 0 {
		select {
		case <-time.After(pause):
		case <-changed:
		}
	}
	if len(data) > 0 && rand.IntN(100) < now.Garbled {
		data[rand.IntN(len(data))] ^= 0x55
	}
}

func (w *Wire) now() (Weather, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.weather, w.changed
}
