// The Go way to be a KMS v2 plugin, for comparison: google.golang.org/grpc and k8s.io/kms.
//
//	bench local SOCKET SETTINGS      keeps the key, as a Go plugin with a cache could
//	bench barbican SOCKET SETTINGS   asks Barbican for the key on each call, as the Go plugin does
//
// Both write the sidecar's bytes, and its tag, so that they do the same work.
package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"
)

const annotation = "hmac-sha256.kms.barbican.openstack.org"

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("this is driven by scripts/bench")
	}
	var s server
	if err := json.Unmarshal(must(os.ReadFile(os.Args[3])), &s.settings); err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "local":
		k := must(newKey(must(hex.DecodeString(s.settings.Key))))
		s.key = func(context.Context) (*key, error) { return k, nil }
	case "barbican":
		s.token = must(s.login())
		s.key = s.fetch
	default:
		log.Fatal("local or barbican")
	}
	grpcServer := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(grpcServer, &s)
	log.Fatal(grpcServer.Serve(must(net.Listen("unix", os.Args[2]))))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

type settings struct {
	KeyID    string `json:"key_id"`
	Key      string `json:"key"`
	Keystone string `json:"keystone"`
	Barbican string `json:"barbican"`
	ID       string `json:"id"`
	Secret   string `json:"secret"`
}

type server struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	settings settings
	token    string
	key      func(context.Context) (*key, error)
}

// login is what happens once, when the plugin starts.
func (s *server) login() (string, error) {
	credential := map[string]any{"id": s.settings.ID, "secret": s.settings.Secret}
	body := must(json.Marshal(map[string]any{"auth": map[string]any{"identity": map[string]any{
		"methods": []string{"application_credential"}, "application_credential": credential}}}))
	answer, err := http.Post(s.settings.Keystone+"/auth/tokens", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		return "", errors.New(answer.Status)
	}
	return answer.Header.Get("X-Subject-Token"), nil
}

// fetch is what happens on each call.
func (s *server) fetch(ctx context.Context) (*key, error) {
	href := strings.TrimSuffix(s.settings.Barbican, "/") + "/v1/secrets/" + s.settings.KeyID + "/payload"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, href, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-Auth-Token", s.token)
	request.Header.Set("Accept", "application/octet-stream")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	payload, err := io.ReadAll(io.LimitReader(answer.Body, 1024))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Status)
	}
	return newKey(payload)
}

func (s *server) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	return &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: s.settings.KeyID}, nil
}

func (s *server) Encrypt(ctx context.Context, request *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	k, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	sealed := k.seal(request.Plaintext)
	return &kmsapi.EncryptResponse{
		Ciphertext:  sealed,
		KeyId:       s.settings.KeyID,
		Annotations: map[string][]byte{annotation: k.tag(s.settings.KeyID, sealed)},
	}, nil
}

func (s *server) Decrypt(ctx context.Context, request *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	k, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(request.Annotations[annotation], k.tag(request.KeyId, request.Ciphertext)) {
		return nil, errors.New("the tag is wrong")
	}
	plaintext, err := k.open(request.Ciphertext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.DecryptResponse{Plaintext: plaintext}, nil
}

type key struct {
	block cipher.Block
	mac   []byte
}

func newKey(kek []byte) (*key, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	mac, err := hkdf.Key(sha256.New, kek, nil, "barbican-kms/v1/hmac", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the tag: %w", err)
	}
	return &key{block, mac}, nil
}

func (k *key) seal(plaintext []byte) []byte {
	pad := aes.BlockSize - len(plaintext)%aes.BlockSize
	sealed := make([]byte, aes.BlockSize+len(plaintext)+pad)
	iv, body := sealed[:aes.BlockSize], sealed[aes.BlockSize:]
	must(rand.Read(iv))
	for i := range body[copy(body, plaintext):] {
		body[len(plaintext)+i] = byte(pad)
	}
	cipher.NewCBCEncrypter(k.block, iv).CryptBlocks(body, body)
	return sealed
}

func (k *key) open(sealed []byte) ([]byte, error) {
	if len(sealed) < 2*aes.BlockSize || len(sealed)%aes.BlockSize != 0 {
		return nil, errors.New("the length is wrong")
	}
	body := make([]byte, len(sealed)-aes.BlockSize)
	cipher.NewCBCDecrypter(k.block, sealed[:aes.BlockSize]).CryptBlocks(body, sealed[aes.BlockSize:])
	pad := int(body[len(body)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errors.New("the padding is wrong")
	}
	return body[:len(body)-pad], nil
}

func (k *key) tag(keyID string, sealed []byte) []byte {
	mac := hmac.New(sha256.New, k.mac)
	mac.Write([]byte("barbican-kms/v1"))
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(keyID))))
	mac.Write([]byte(keyID))
	mac.Write(sealed)
	return mac.Sum(nil)
}
