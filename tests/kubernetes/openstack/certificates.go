package openstack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"time"

	"barbican-kms/tests/kubernetes/proc"
)

// Authority signs the certificates of the servers.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes one that nobody knows yet.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(made)
	return &Authority{certificate, key}, err
}

// PEM is what a client trusts.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Sign makes a certificate for the servers, as PEM.
func (a *Authority) Sign(ends time.Time) (certificate, key []byte, err error) {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: ends,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost", KeystoneName, BarbicanName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, made.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(made)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}

// Pair is such a certificate for a server of this process.
func (a *Authority) Pair() (tls.Certificate, error) {
	certificate, key, err := a.Sign(time.Now().AddDate(0, 1, 0))
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certificate, key)
}

// Trust makes these authorities those that the servers and the operator know.
func (c *Cloud) Trust(authorities ...*Authority) error {
	return proc.WriteWhole(filepath.Join(c.dir, "tls", "ca.pem"), Bundle(authorities...))
}

// Bundle is a file of several authorities.
func Bundle(authorities ...*Authority) (text []byte) {
	for _, a := range authorities {
		text = append(text, a.PEM()...)
	}
	return text
}

// Certify gives both servers a certificate that ends then. Connections end.
func (c *Cloud) Certify(ctx context.Context, a *Authority, ends time.Time) error {
	certificate, key, err := a.Sign(ends)
	if err != nil {
		return err
	}
	for _, server := range []string{Keystone, Barbican} {
		if err := c.port(ctx, server, false); err != nil {
			return err
		}
	}
	for name, text := range map[string][]byte{"server.pem": certificate, "server.key": key} {
		if err := proc.WriteWhole(filepath.Join(c.dir, "tls", name), text); err != nil {
			return err
		}
	}
	for _, server := range []string{Keystone, Barbican} {
		if err := c.port(ctx, server, true); err != nil {
			return err
		}
	}
	return nil
}
