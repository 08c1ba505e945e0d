// Package plugin is a KMS v2 plugin for tests: the byte format of the sidecar, keys that the test
// hands in, and faults that a well-behaved server cannot be made to show.
//
// It stands where the real binary would get in the way (a wrong version, an empty key id, an
// address that nobody serves) and it plays the Go plugin that the sidecar replaces.
package plugin

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"
	kmsservice "k8s.io/kms/pkg/service"
)

// Annotation is the key under which the sidecar stores its tag.
const Annotation = "hmac-sha256.kms.barbican.openstack.org"

// Ring is what a plugin holds: the key it writes with, and every key it reads with.
type Ring struct {
	Write string
	Keys  map[string][]byte
	// Legacy makes it the Go plugin: no tag is written, none is looked at, and Decrypt uses the
	// write key whatever the request says.
	Legacy bool
}

// Plugin serves KMS v2. The functions, where set, replace the well-behaved answer.
type Plugin struct {
	mu      sync.Mutex
	ring    Ring
	status  func() (*kmsservice.StatusResponse, error)
	encrypt func(*kmsservice.EncryptResponse) (*kmsservice.EncryptResponse, error)
	decrypt func() error
	calls   Calls
}

// Calls counts what arrived, and keeps what the last Encrypt was given.
type Calls struct {
	Status, Encrypt, Decrypt int
	LastSeed                 []byte
	// Authorities holds every :authority that a client sent.
	Authorities map[string]int
	// WithoutUID counts Encrypt and Decrypt calls with an empty uid.
	WithoutUID int
}

// New returns a plugin that holds the ring and answers as it should.
func New(ring Ring) *Plugin {
	return &Plugin{ring: ring, calls: Calls{Authorities: map[string]int{}}}
}

// SetRing replaces keys and write key at once.
func (p *Plugin) SetRing(ring Ring) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ring = ring
}

// WriteKey is the id of the key that it writes with.
func (p *Plugin) WriteKey() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ring.Write
}

// OnStatus replaces the answer to Status; nil restores the right one.
func (p *Plugin) OnStatus(f func() (*kmsservice.StatusResponse, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = f
}

// OnEncrypt edits the answer to Encrypt; nil leaves it alone.
func (p *Plugin) OnEncrypt(f func(*kmsservice.EncryptResponse) (*kmsservice.EncryptResponse, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encrypt = f
}

// OnDecrypt may refuse a Decrypt before it is tried; nil lets all through.
func (p *Plugin) OnDecrypt(f func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decrypt = f
}

// Fail makes every call end in err until Recover.
func (p *Plugin) Fail(err error) {
	p.OnStatus(func() (*kmsservice.StatusResponse, error) { return nil, err })
	p.OnEncrypt(func(*kmsservice.EncryptResponse) (*kmsservice.EncryptResponse, error) { return nil, err })
	p.OnDecrypt(func() error { return err })
}

// Recover takes back every fault.
func (p *Plugin) Recover() {
	p.OnStatus(nil)
	p.OnEncrypt(nil)
	p.OnDecrypt(nil)
}

// Calls returns a copy of the counters.
func (p *Plugin) Calls() Calls {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls
	c.Authorities = map[string]int{}
	for k, v := range p.calls.Authorities {
		c.Authorities[k] = v
	}
	return c
}

// Status implements kmsservice.Service.
func (p *Plugin) Status(ctx context.Context) (*kmsservice.StatusResponse, error) {
	p.mu.Lock()
	p.calls.Status++
	p.seen(ctx)
	f, id := p.status, p.ring.Write
	p.mu.Unlock()
	if f != nil {
		return f()
	}
	if id == "" {
		return nil, status.Error(codes.Unavailable, "no usable write key")
	}
	return &kmsservice.StatusResponse{Version: "v2", Healthz: "ok", KeyID: id}, nil
}

// Encrypt implements kmsservice.Service.
func (p *Plugin) Encrypt(ctx context.Context, uid string, plaintext []byte) (*kmsservice.EncryptResponse, error) {
	p.mu.Lock()
	p.calls.Encrypt++
	p.calls.LastSeed = append([]byte(nil), plaintext...)
	p.seen(ctx)
	if uid == "" {
		p.calls.WithoutUID++
	}
	f, ring := p.encrypt, p.ring
	p.mu.Unlock()

	key, ok := ring.Keys[ring.Write]
	if !ok {
		return nil, status.Error(codes.Unavailable, "no usable write key")
	}
	sealed, err := Seal(key, plaintext)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	answer := &kmsservice.EncryptResponse{Ciphertext: sealed, KeyID: ring.Write}
	if !ring.Legacy {
		tag, err := Tag(key, ring.Write, sealed)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		answer.Annotations = map[string][]byte{Annotation: tag}
	}
	if f != nil {
		return f(answer)
	}
	return answer, nil
}

// Decrypt implements kmsservice.Service.
func (p *Plugin) Decrypt(ctx context.Context, uid string, req *kmsservice.DecryptRequest) ([]byte, error) {
	p.mu.Lock()
	p.calls.Decrypt++
	p.seen(ctx)
	if uid == "" {
		p.calls.WithoutUID++
	}
	f, ring := p.decrypt, p.ring
	p.mu.Unlock()
	if f != nil {
		if err := f(); err != nil {
			return nil, err
		}
	}

	if ring.Legacy {
		plain, err := Open(ring.Keys[ring.Write], req.Ciphertext)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		return plain, nil
	}
	key, ok := ring.Keys[req.KeyID]
	if !ok {
		return nil, status.Error(codes.FailedPrecondition, "the key id is not in the ring")
	}
	if stored, ok := req.Annotations[Annotation]; ok {
		tag, err := Tag(key, req.KeyID, req.Ciphertext)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if !hmac.Equal(tag, stored) {
			return nil, status.Error(codes.InvalidArgument, "the ciphertext was refused")
		}
	}
	plain, err := Open(key, req.Ciphertext)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "the ciphertext was refused")
	}
	return plain, nil
}

func (p *Plugin) seen(ctx context.Context) {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for _, a := range md.Get(":authority") {
			p.calls.Authorities[a]++
		}
	}
}

// Serve listens on the path, which it frees first, and returns the function that ends it at once.
func (p *Plugin) Serve(path string) (stop func(), err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(server, kmsservice.NewGRPCService(path, 5*time.Second, p))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return func() {
		server.Stop()
		<-done
	}, nil
}

// Seal is the stored form of a seed: a random IV, then AES-CBC with PKCS#7 padding.
func Seal(key, plaintext []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plaintext)%aes.BlockSize
	out := make([]byte, aes.BlockSize+len(plaintext)+pad)
	if _, err := rand.Read(out[:aes.BlockSize]); err != nil {
		return nil, err
	}
	body := out[aes.BlockSize:]
	copy(body, plaintext)
	for i := len(plaintext); i < len(body); i++ {
		body[i] = byte(pad)
	}
	cipher.NewCBCEncrypter(block, out[:aes.BlockSize]).CryptBlocks(body, body)
	return out, nil
}

// Open undoes Seal.
func Open(key, sealed []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < 2*aes.BlockSize || len(sealed)%aes.BlockSize != 0 {
		return nil, errors.New("bad length")
	}
	body := append([]byte(nil), sealed[aes.BlockSize:]...)
	cipher.NewCBCDecrypter(block, sealed[:aes.BlockSize]).CryptBlocks(body, body)
	pad := int(body[len(body)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errors.New("bad padding")
	}
	for _, b := range body[len(body)-pad:] {
		if int(b) != pad {
			return nil, errors.New("bad padding")
		}
	}
	return body[:len(body)-pad], nil
}

// Tag authenticates a sealed seed and the id of the key that sealed it.
func Tag(key []byte, keyID string, sealed []byte) ([]byte, error) {
	macKey, err := hkdf.Key(sha256.New, key, nil, "barbican-kms/v1/hmac", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the tag: %w", err)
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write([]byte("barbican-kms/v1"))
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(keyID))))
	mac.Write([]byte(keyID))
	mac.Write(sealed)
	return mac.Sum(nil), nil
}
