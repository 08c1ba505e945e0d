package sidecar

import (
	"bufio"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"barbican-kms/tests/kubernetes/plugin"
)

// ServeIfAsked turns this process into the stand-in for barbican-kms when it was started with the
// same command line, and returns otherwise. Every main that opens a Bench calls it first, so the
// tests of this module run, and can be tested themselves, without Barbican.
func ServeIfAsked() {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		return
	}
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	socket := flags.String("socketpath", "", "the unix socket")
	config := flags.String("cloud-config", "", "the cloud-config")
	_ = flags.Parse(os.Args[2:])

	ring, err := standInRing(*config)
	if err != nil {
		log.Fatal(err)
	}
	p := plugin.New(ring)
	stop, err := p.Serve(*socket)
	if err != nil {
		log.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	for s := range signals {
		if s != syscall.SIGHUP {
			break
		}
		ring, err := standInRing(*config)
		if err != nil {
			log.Print(err)
			continue
		}
		p.SetRing(ring)
		log.Printf("reloaded, writing with %s", ring.Write)
	}
	stop()
	os.Exit(0)
}

func standInRing(path string) (plugin.Ring, error) {
	f, err := os.Open(path)
	if err != nil {
		return plugin.Ring{}, err
	}
	defer f.Close()
	var write, suffix string
	var ids []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.TrimSpace(name) {
		case "key-id":
			write = value
			ids = append(ids, value)
		case "decrypt-key-ids":
			ids = append(ids, strings.Split(value, ",")...)
		case "key-id-suffix":
			suffix = "_" + value
		}
	}
	ring := plugin.Ring{Keys: map[string][]byte{}}
	for _, id := range ids {
		key := StandInKey(id)
		if key == nil {
			continue
		}
		ring.Keys[id] = key
		if id == write {
			ring.Write = id + suffix
			ring.Keys[ring.Write] = key
		}
	}
	return ring, lines.Err()
}
