package link

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// flow is a connection.
type flow struct {
	port, service uint16 // of the program and of the server
	host          byte   // the last byte of the server's address, as the program knows it
}

// carry moves packets until the device ends.
func (l *Link) carry() {
	buffer := make([]byte, 1<<16)
	for {
		size, err := l.device.Read(buffer)
		if err != nil {
			return
		}
		if packet := bytes.Clone(buffer[:size]); turn(packet) {
			l.pass(packet)
		}
	}
}

// The parts of a packet of version 4.
const (
	protocol            = 9
	source, destination = 15, 19 // the last bytes of the addresses
	header              = 20
	tcp, udp            = 6, 17
)

// turn makes a packet come from where it went to; false for one that goes nowhere.
func turn(packet []byte) bool {
	if len(packet) < header+4 || packet[0] != 0x45 || packet[protocol] != tcp && packet[protocol] != udp {
		return false
	}
	packet[source], packet[destination] = other(packet[source]), other(packet[destination])
	return true
}

// pass delivers a packet, or does not.
func (l *Link) pass(packet []byte) {
	times, delays := l.fate(packet)
	for _, delay := range delays[:times] {
		if delay == 0 {
			_, _ = l.device.Write(packet)
		} else {
			time.AfterFunc(delay, func() { _, _ = l.device.Write(packet) })
		}
	}
}

// fate of a packet: how many times it arrives, and each time after how long.
func (l *Link) fate(packet []byte) (times int, delays [2]time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.weather
	f, up := l.flowOf(packet)
	if packet[protocol] == tcp && isFirst(packet) {
		l.flows[f] = false
	}
	switch {
	case l.flows[f], up && w.Up, !up && w.Down, w.Largest > 0 && len(packet) > w.Largest, rand.IntN(100) < w.Loss:
		return 0, delays
	}
	for i := range delays {
		delays[i] = w.Delay
		if w.Jitter > 0 {
			delays[i] += rand.N(w.Jitter)
		}
	}
	if rand.IntN(100) < w.Twice {
		return 2, delays
	}
	return 1, delays
}

// flowOf a turned packet, and whether it goes to a server.
func (l *Link) flowOf(packet []byte) (f flow, up bool) {
	from := binary.BigEndian.Uint16(packet[header:])
	to := binary.BigEndian.Uint16(packet[header+2:])
	if l.listening[from] {
		return flow{to, from, packet[source]}, false
	}
	return flow{from, to, other(packet[destination])}, true
}

// isFirst says whether it opens a connection.
func isFirst(packet []byte) bool {
	const flags, syn, ack = header + 13, 0x02, 0x10
	return len(packet) > flags && packet[flags]&(syn|ack) == syn
}

// other is the last byte of the address that stands on the other side of the link: 1 and 2, 3 and 4.
func other(host byte) byte { return ((host - 1) ^ 1) + 1 }
