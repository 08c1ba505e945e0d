package e2e

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"barbican-kms/tests/kubernetes/link"
)

// What the campaign's harm to packets stands on.
func TestALinkDoesToPacketsWhatItIsTold(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	l, err := link.New()
	check(t, err)
	t.Cleanup(l.Close)
	listener, err := l.Listen("tcp", link.Server+":0")
	check(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	check(t, err)
	dial := func() net.Conn {
		t.Helper()
		conn, err := l.Dial("tcp", link.Reached+":"+port)
		check(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	// whether as many bytes come back, which takes that long at most
	comesBack := func(conn net.Conn, size int, patience time.Duration) bool {
		t.Helper()
		check(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err := conn.Write(make([]byte, size))
		check(t, err)
		_, err = io.ReadFull(conn, make([]byte, size))
		return err == nil
	}
	const long, short = time.Minute, 300 * time.Millisecond

	conn := dial()
	if !comesBack(conn, 5000, long) {
		t.Error("nothing comes over it")
	}
	for name, w := range map[string]link.Weather{
		"lossy": {Loss: 20}, "late": {Delay: 20 * time.Millisecond, Jitter: 50 * time.Millisecond, Twice: 20},
	} {
		l.Set(w)
		if !comesBack(dial(), 50_000, long) {
			t.Errorf("nothing comes over a %s one", name)
		}
	}
	for name, w := range map[string]link.Weather{"up": {Up: true}, "down": {Down: true}, "large": {Largest: 500}} {
		l.Set(link.Weather{})
		conn := dial()
		l.Set(w)
		if comesBack(conn, 2000, short) {
			t.Errorf("something comes though it is cut: %s", name)
		}
	}
	if !comesBack(dial(), 300, long) {
		t.Error("nothing small comes where the large is lost")
	}
	l.Set(link.Weather{Delay: short})
	if comesBack(conn, 100, short) {
		t.Error("nothing is late")
	}
	l.Set(link.Weather{})
	conn = dial()
	l.Forget()
	if comesBack(conn, 100, short) {
		t.Error("a forgotten connection goes on")
	}
	if !comesBack(dial(), 100, long) {
		t.Error("a new connection does not go on where an old one is forgotten")
	}
}
