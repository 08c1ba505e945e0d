package openstack

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	container := &Container{Cloud: c, ID: made.ID}
	if err := errors.Join(container.Allow(ctx), c.Admit(ctx, secret)); err != nil {
		return nil, err
	}
	credential, err := container.NewCredential(ctx)
	if err != nil {
		return nil, err
	}
	container.Cloud, err = c.With(credential)
	return container, err
}

// Credential is an application credential.
type Credential struct{ ID, Secret string }

// NewCredential makes one that reads this container and payloads, and nothing else.
func (c *Container) NewCredential(ctx context.Context) (Credential, error) {
	return c.newCredential(ctx, nil)
}

// newCredential with more access rules, and more arguments for it.
func (c *Container) newCredential(ctx context.Context, rules []map[string]string, args ...string) (Credential, error) {
	var credential Credential
	text, err := json.Marshal(append([]map[string]string{
		{"service": "key-manager", "method": "GET", "path": "/v1/containers/" + c.ID},
		{"service": "key-manager", "method": "GET", "path": "/v1/secrets/*/payload"},
	}, rules...))
	if err != nil {
		return credential, err
	}
	args = append([]string{"appcred-create", "--as", "reader", "--access-rules", string(text)}, args...)
	err = c.ctlInto(ctx, &credential, args...)
	return credential, err
}

// CredentialID is of the one that the cloud-config logs in with.
func (c *Container) CredentialID() string { return c.credential }

// DeleteCredential ends it and its tokens.
func (c *Container) DeleteCredential(ctx context.Context, id string) error {
	_, err := c.ctl(ctx, "appcred-delete", "--as", "reader", id)
	return err
}

// With is the same cloud, logged in to with another credential.
func (c *Cloud) With(credential Credential) (*Cloud, error) {
	own := *c
	own.credential = credential.ID
	for name, value := range map[string]string{"id": credential.ID, "secret": credential.Secret} {
		line := regexp.MustCompile(`(?m)^application-credential-` + name + ` *=.*$`)
		if !line.MatchString(own.global) {
			return nil, fmt.Errorf("the cloud-config has no application-credential-%s", name)
		}
		own.global = line.ReplaceAllString(own.global, fmt.Sprintf("application-credential-%s = %q", name, value))
	}
	return &own, nil
}

// reference is how a container lists a key.
type reference struct {
	Name   string
	Secret string `json:"secret_ref"`
}

func (c *Container) references(ctx context.Context) ([]reference, error) {
	var about struct {
		References []reference `json:"secret_refs"`
	}
	err := c.ctlInto(ctx, &about, "container-get", c.ID)
	return about.References, err
}

// Write is the id of the key that the container makes the write key; empty where there is none.
func (c *Container) Write(ctx context.Context) (id string, err error) {
	references, err := c.references(ctx)
	if err != nil {
		return "", err
	}
	var latest time.Time
	for _, r := range references {
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

// RevokeTokens ends all tokens of the user that reads keys.
func (c *Cloud) RevokeTokens(ctx context.Context) error {
	_, err := c.ctl(ctx, "tokens-revoke", c.reader)
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

// Replace makes a key, which exists, the container's write key from now on, and takes the old one
// out.
func (c *Container) Replace(ctx context.Context, earlier, id string) error {
	if err := c.Stage(ctx, id, time.Now()); err != nil {
		return err
	}
	references, err := c.references(ctx)
	if err != nil {
		return err
	}
	for _, r := range references {
		if filepath.Base(r.Secret) == earlier {
			if _, err := c.ctl(ctx, "container-remove", c.ID, r.Name, earlier); err != nil {
				return err
			}
		}
	}
	return nil
}

// Admit lets the sidecars' user read a key, and nobody else but its maker.
func (c *Cloud) Admit(ctx context.Context, secret string) error {
	_, err := c.ctl(ctx, "secret-acl", secret, "--private", "--reader", c.reader)
	return err
}

// Payload is a key as Barbican gives it to its maker.
func (c *Cloud) Payload(ctx context.Context, id string) ([]byte, error) {
	var payload struct{ Hex string }
	if err := c.ctlInto(ctx, &payload, "secret-payload", id); err != nil {
		return nil, err
	}
	return hex.DecodeString(payload.Hex)
}
