// Package stored reads what kube-apiserver's KMS v2 provider leaves in etcd.
//
// It reads the wire form itself, because the generated type changed its protobuf library between
// the releases that the tests run against.
package stored

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Prefix starts every value that a KMS v2 provider of this name has written.
func Prefix(provider string) string { return "k8s:enc:kms:v2:" + provider + ":" }

// Object is the EncryptedObject message, by its field numbers.
type Object struct {
	Data        []byte            // 1
	KeyID       string            // 2
	Seed        []byte            // 3: the seed as the plugin encrypted it
	Annotations map[string][]byte // 4
	SeedType    uint64            // 5: 0 AES-GCM key, 1 HKDF seed
}

// Seed types. HKDFSeed is the only one that current API servers write.
const (
	AESGCMKey = 0
	HKDFSeed  = 1
)

// Bytes writes the object as the KMS v2 provider of this name would.
func (o *Object) Bytes(provider string) []byte {
	field := func(to []byte, number protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), value)
	}
	out := field([]byte(Prefix(provider)), 1, o.Data)
	out = field(out, 2, []byte(o.KeyID))
	out = field(out, 3, o.Seed)
	for key, value := range o.Annotations {
		out = field(out, 4, field(field(nil, 1, []byte(key)), 2, value))
	}
	if o.SeedType != 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, 5, protowire.VarintType), o.SeedType)
	}
	return out
}

// Parse reads a value with its prefix.
func Parse(provider string, value []byte) (*Object, error) {
	body, ok := bytes.CutPrefix(value, []byte(Prefix(provider)))
	if !ok {
		return nil, fmt.Errorf("the value begins with %.40q, not with %q", value, Prefix(provider))
	}
	return ParseBody(body)
}

// ParseBody reads a value whose prefix has been taken off.
func ParseBody(body []byte) (*Object, error) {
	o := &Object{Annotations: map[string][]byte{}}
	err := fields(body, func(number protowire.Number, bytesValue []byte, varint uint64) error {
		switch number {
		case 1:
			o.Data = bytesValue
		case 2:
			o.KeyID = string(bytesValue)
		case 3:
			o.Seed = bytesValue
		case 4:
			var key string
			var val []byte
			if err := fields(bytesValue, func(n protowire.Number, b []byte, _ uint64) error {
				switch n {
				case 1:
					key = string(b)
				case 2:
					val = b
				}
				return nil
			}); err != nil {
				return err
			}
			o.Annotations[key] = val
		case 5:
			o.SeedType = varint
		default:
			return fmt.Errorf("unknown field %d", number)
		}
		return nil
	})
	return o, err
}

// Marshal writes the message; the order of fields is that of their numbers.
func (o *Object) Marshal() []byte {
	var b []byte
	put := func(b []byte, number protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
	}
	b = put(b, 1, o.Data)
	b = put(b, 2, []byte(o.KeyID))
	b = put(b, 3, o.Seed)
	for key, value := range o.Annotations {
		b = put(b, 4, put(put(nil, 1, []byte(key)), 2, value))
	}
	return protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), o.SeedType)
}

func fields(b []byte, visit func(protowire.Number, []byte, uint64) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var value []byte
		var varint uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(b)
		default:
			return errors.New("unexpected wire type")
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := visit(number, value, varint); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
