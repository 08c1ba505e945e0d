package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"barbican-kms/tests/kubernetes/proc"
)

// Etcd is one member on loopback, spoken to by its JSON gateway.
type Etcd struct {
	*proc.Process
	URL string

	options proc.Options
}

// Value is one key of etcd.
type Value struct {
	Key, Value []byte
}

func newEtcd(programs Programs, dir string, detach bool) (*Etcd, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	client := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	return &Etcd{URL: client, options: proc.Options{
		Name: "etcd", Bin: programs.Etcd, Dir: dir, Detach: detach,
		Args: []string{
			"--data-dir", filepath.Join(dir, "etcd"),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", "default=" + peer,
			"--log-level", "warn",
			// A test may lose its data when the machine loses power.
			"--unsafe-no-fsync",
		},
	}}, nil
}

// Start runs the process and does not wait for it.
func (e *Etcd) Start() error {
	p, err := proc.Start(e.options)
	if err != nil {
		return err
	}
	e.Process = p
	return nil
}

// Ready waits until the member has a leader.
func (e *Etcd) Ready(ctx context.Context) error {
	return poll(ctx, e.Process, 20*time.Millisecond, func() error {
		answer, err := http.Get(e.URL + "/health")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
}

// Get reads one key; nil when it is not there.
func (e *Etcd) Get(ctx context.Context, key string) ([]byte, error) {
	values, err := e.ask(ctx, map[string]any{"key": []byte(key)})
	if err != nil || len(values) == 0 {
		return nil, err
	}
	return values[0].Value, nil
}

// List reads all keys that begin with the prefix.
func (e *Etcd) List(ctx context.Context, prefix string) ([]Value, error) {
	end := []byte(prefix)
	end[len(end)-1]++
	return e.ask(ctx, map[string]any{"key": []byte(prefix), "range_end": end})
}

// Put writes one key.
func (e *Etcd) Put(ctx context.Context, key string, value []byte) error {
	_, err := e.post(ctx, "/v3/kv/put", map[string]any{"key": []byte(key), "value": value})
	return err
}

func (e *Etcd) ask(ctx context.Context, request map[string]any) ([]Value, error) {
	body, err := e.post(ctx, "/v3/kv/range", request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		KVs []Value `json:"kvs"`
	}
	return answer.KVs, json.Unmarshal(body, &answer)
}

func (e *Etcd) post(ctx context.Context, path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	out, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("etcd %s: %s: %s", path, answer.Status, out)
	}
	return out, nil
}
