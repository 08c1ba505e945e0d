package openstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Freeze makes a server take connections and answer nothing.
func (c *Cloud) Freeze(ctx context.Context, server string) error {
	_, err := c.ctl(ctx, "freeze", server)
	return err
}

// Thaw ends Freeze and returns when the server answers.
func (c *Cloud) Thaw(ctx context.Context, server string) error {
	_, err := c.ctl(ctx, "thaw", server)
	return err
}

// Kill ends a server at once, all of its processes.
func (c *Cloud) Kill(ctx context.Context, server string) error {
	_, err := c.ctl(ctx, "kill", server)
	return err
}

// Revive starts what was killed, with the same data.
func (c *Cloud) Revive(ctx context.Context) error {
	_, err := Up(ctx, c.dir, c.kind...)
	return err
}

// Address is host and port of a server.
func (c *Cloud) Address(server string) string {
	at := c.keystone
	if server == Barbican {
		at = c.barbican
	}
	parsed, err := url.Parse(at)
	if err != nil {
		return at
	}
	return parsed.Host
}

// Seen is the cloud as one node sees it: Keystone under another address, and the authorities in
// another file.
func (c *Cloud) Seen(keystone, authorities string) (*Cloud, error) {
	other, err := c.reachedAt(keystone)
	if err != nil {
		return nil, err
	}
	before := other.global
	other.global = strings.ReplaceAll(before, strconv.Quote(filepath.Join(c.dir, "tls", "ca.pem")), strconv.Quote(authorities))
	if other.global == before {
		return nil, errors.New("the cloud-config names no ca-file")
	}
	return other, nil
}

// Backup copies what Barbican stores; Restore brings it back. Barbican is away meanwhile.
func (c *Cloud) Backup(ctx context.Context) error {
	return c.copyDatabase(ctx, "barbican.db", "barbican.db.backup")
}

// Restore undoes all that happened in Barbican since Backup.
func (c *Cloud) Restore(ctx context.Context) error {
	return c.copyDatabase(ctx, "barbican.db.backup", "barbican.db")
}

func (c *Cloud) copyDatabase(ctx context.Context, from, to string) error {
	if err := c.port(ctx, Barbican, false); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(c.dir, Barbican, from), filepath.Join(c.dir, Barbican, to)); err != nil {
		return err
	}
	return c.port(ctx, Barbican, true)
}

// copyFile keeps the file that is there: a server has it open.
func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// port opens or closes a server's port, and does not ask whether its answers are any good: its
// certificate may have expired.
func (c *Cloud) port(ctx context.Context, server string, open bool) error {
	text, err := os.ReadFile(filepath.Join(c.dir, server+".pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	signal := syscall.SIGUSR1
	if open {
		signal = syscall.SIGUSR2
	}
	if err := syscall.Kill(pid, signal); err != nil {
		return fmt.Errorf("%s: %w", server, err)
	}
	for {
		conn, err := net.Dial("tcp", c.Address(server))
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) == open {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: its port is not as it should be: %w", server, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
