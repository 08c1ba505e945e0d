package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Container is a cloud in which a container lists the keys. It is private, and the sidecars'
// credential is the one of the guide: it reads this container and its keys, and nothing else.
type Container struct {
	*Cloud
	ID string
}

// NewContainer makes one with this secret as the write key.
func (c *Cloud) NewContainer(ctx context.Context, secret string) (*Container, error) {
	since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	var made struct{ ID string }
	if err := c.ctlInto(ctx, &made, "container-create", "--reference", since+"="+secret); err != nil {
		return nil, err
	}
	for _, command := range [][]string{{"container-acl", made.ID}, {"secret-acl", secret}} {
		if _, err := c.ctl(ctx, append(command, "--private", "--reader", c.reader)...); err != nil {
			return nil, err
		}
	}
	rules, err := json.Marshal([]map[string]string{
		{"service": "key-manager", "method": "GET", "path": "/v1/containers/" + made.ID},
		{"service": "key-manager", "method": "GET", "path": "/v1/secrets/*/payload"},
	})
	if err != nil {
		return nil, err
	}
	var credential struct{ ID, Secret string }
	if err := c.ctlInto(ctx, &credential, "appcred-create", "--as", "reader", "--access-rules", string(rules)); err != nil {
		return nil, err
	}
	own := *c
	for name, value := range map[string]string{"id": credential.ID, "secret": credential.Secret} {
		line := regexp.MustCompile(`(?m)^application-credential-` + name + ` *=.*$`)
		if !line.MatchString(own.global) {
			return nil, fmt.Errorf("the cloud-config has no application-credential-%s", name)
		}
		own.global = line.ReplaceAllString(own.global, fmt.Sprintf("application-credential-%s = %q", name, value))
	}
	return &Container{Cloud: &own, ID: made.ID}, nil
}

// Write is the id of the key that the container makes the write key; empty where there is none.
func (c *Container) Write(ctx context.Context) (id string, err error) {
	var about struct {
		References []struct {
			Name   string
			Secret string `json:"secret_ref"`
		} `json:"secret_refs"`
	}
	if err := c.ctlInto(ctx, &about, "container-get", c.ID); err != nil {
		return "", err
	}
	var latest time.Time
	for _, r := range about.References {
		if since, err := time.Parse(time.RFC3339, r.Name); err == nil && since.After(latest) && !since.After(time.Now()) {
			latest, id = since, filepath.Base(r.Secret)
		}
	}
	return id, nil
}

// DeleteSecret deletes a key, as a slip of an operator does. Its container shows no trace of it.
func (c *Cloud) DeleteSecret(ctx context.Context, id string) error {
	_, err := c.ctl(ctx, "secret-delete", id)
	return err
}

// Operator is the environment of a shell of the one who made the keys, with the openstack command.
func (c *Cloud) Operator() []string {
	return []string{
		"PATH=" + filepath.Join(c.dir, "venv", "bin") + ":" + os.Getenv("PATH"),
		"OS_CLIENT_CONFIG_FILE=" + c.cloudsYAML, "OS_CLOUD=kms-password",
	}
}

func (c *Cloud) ctlInto(ctx context.Context, answer any, args ...string) error {
	out, err := c.ctl(ctx, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("scripts/openstack ctl %s answered %q: %w", args[0], out, err)
	}
	return nil
}
