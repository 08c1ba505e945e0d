package openstack

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Answer is how a server of names answers.
type Answer string

// The kinds.
const (
	Truth    Answer = "the truth"
	Slowly   Answer = "the truth after 3 s"
	Nothing  Answer = "nothing"
	NoName   Answer = "no such name"
	NoServer Answer = "cannot answer"
	Lie      Answer = "another server's address"
)

// Names is a server of names for one node, and the server that it lies about.
type Names struct {
	place  Place
	conn   net.PacketConn
	liar   net.Listener
	answer atomic.Value
	fooled atomic.Int32
}

// The names that the certificate of the servers has.
const (
	KeystoneName = "keystone.example.com"
	BarbicanName = "barbican.example.com"
)

// NewNames starts one. It tells where servers of the place are reached; its lies lead to the second
// host, where somebody listens on the port who has a certificate that nobody trusts.
func NewNames(in Place, port string, certificate tls.Certificate) (*Names, error) {
	names := &Names{place: in}
	names.Say(Truth)
	var err error
	if names.conn, err = in.ListenPacket("udp", in.Server+":53"); err != nil {
		return nil, err
	}
	listener, err := in.Listen("tcp", net.JoinHostPort(in.OtherServer, port))
	if err != nil {
		_ = names.conn.Close()
		return nil, err
	}
	names.liar = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	go names.serve()
	go names.deceive()
	return names, nil
}

// Close ends it.
func (n *Names) Close() {
	_ = n.conn.Close()
	_ = n.liar.Close()
}

// Say changes the answers.
func (n *Names) Say(answer Answer) { n.answer.Store(answer) }

// Fooled counts who has spoken to the wrong server.
func (n *Names) Fooled() int { return int(n.fooled.Load()) }

// By is a command that starts a program which asks nobody else for names, in a mount namespace of
// its own, as root. The files for it go to the directory.
func (n *Names) By(dir string) ([]string, error) {
	hosts, servers := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	for path, text := range map[string]string{hosts: "127.0.0.1 localhost\n", servers: "nameserver " + n.place.Reached + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return inNamesOf(hosts, servers), nil
}

func inNamesOf(hosts, servers string) []string {
	script := `mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"`
	return []string{"unshare", "--mount", "sh", "-c", script, "sh", hosts, servers}
}

func (n *Names) serve() {
	buffer := make([]byte, 512)
	for {
		size, from, err := n.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		answer := n.answer.Load().(Answer)
		text := n.reply(buffer[:size], answer)
		if text == nil || answer == Nothing {
			continue
		}
		var pause time.Duration
		if answer == Slowly {
			pause = 3 * time.Second
		}
		time.AfterFunc(pause, func() { _, _ = n.conn.WriteTo(text, from) })
	}
}

// reply to a question after an address of version 4; to any other, that there is none.
func (n *Names) reply(question []byte, answer Answer) []byte {
	const header, typeA = 12, 1
	end := header
	for end < len(question) && question[end] != 0 {
		end += 1 + int(question[end])
	}
	end += 5
	if end > len(question) {
		return nil
	}
	code := map[Answer]byte{NoName: 3, NoServer: 2}[answer]
	reply := append([]byte{question[0], question[1], 0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0}, question[header:end]...)
	if code != 0 || question[end-3] != typeA {
		return reply
	}
	reply[7] = 1
	address := n.place.Reached
	if answer == Lie {
		address = n.place.OtherReached
	}
	// The name is the one at offset 12; class IN, to be kept for no time, four bytes.
	reply = append(reply, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4)
	return append(reply, net.ParseIP(address).To4()...)
}

func (n *Names) deceive() {
	for {
		conn, err := n.liar.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if conn.(*tls.Conn).Handshake() == nil {
				if size, _ := conn.Read(make([]byte, 1)); size > 0 {
					n.fooled.Add(1)
				}
			}
		}()
	}
}
