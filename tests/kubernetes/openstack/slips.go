package openstack

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// What an operator, or somebody who is none, does to the keys of a container.

// ShortCredential makes a credential that ends that soon, and may ask when.
func (c *Container) ShortCredential(ctx context.Context, lasts time.Duration) (Credential, error) {
	own := "/v3/users/" + c.reader + "/application_credentials/*"
	return c.newCredential(ctx, []map[string]string{{"service": "identity", "method": "GET", "path": own}},
		"--expires-in", fmt.Sprint(lasts.Seconds()))
}

// Deny takes the container from the sidecars' user; Allow gives it back.
func (c *Container) Deny(ctx context.Context) error {
	_, err := c.ctl(ctx, "container-acl", c.ID, "--private")
	return err
}

// Allow lets the sidecars' user read the container, and nobody else but its maker.
func (c *Container) Allow(ctx context.Context) error {
	_, err := c.ctl(ctx, "container-acl", c.ID, "--private", "--reader", c.reader)
	return err
}

// DenySecret takes a key from the sidecars' user.
func (c *Cloud) DenySecret(ctx context.Context, id string) error {
	_, err := c.ctl(ctx, "secret-acl", id, "--private")
	return err
}

// Stage lists a key that becomes the write key then.
func (c *Container) Stage(ctx context.Context, id string, at time.Time) error {
	_, err := c.ctl(ctx, "container-add", c.ID, at.UTC().Format(time.RFC3339), id)
	return err
}

// Unstage takes out what Stage has listed.
func (c *Container) Unstage(ctx context.Context, id string, at time.Time) error {
	_, err := c.ctl(ctx, "container-remove", c.ID, at.UTC().Format(time.RFC3339), id)
	return err
}

// Alter puts the bytes of another secret into Barbican's database. Backup and Restore undo it.
func (c *Cloud) Alter(ctx context.Context, id, other string) error {
	const program = `
import sqlite3, sys
database, id, other = sys.argv[1:]
with sqlite3.connect(database, timeout=30) as db:
    done = db.execute("""UPDATE encrypted_data SET (cypher_text, kek_meta_extended, kek_id) =
        (SELECT cypher_text, kek_meta_extended, kek_id FROM encrypted_data WHERE secret_id = ?)
        WHERE secret_id = ?""", (other, id))
    assert done.rowcount == 1, done.rowcount
`
	python := filepath.Join(c.dir, "venv", "bin", "python")
	out, err := exec.CommandContext(ctx, python, "-c", program, filepath.Join(c.dir, Barbican, "barbican.db"), id, other).CombinedOutput()
	if err != nil {
		return fmt.Errorf("alter %s: %w: %s", id, err, out)
	}
	return nil
}
