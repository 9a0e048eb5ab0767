// Package certtest makes certificates for tests: authorities, what they issue, and the forms in which people have them.
package certtest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Cert is a certificate with its private key.
type Cert struct {
	Cert   *x509.Certificate
	Key    crypto.Signer
	Issuer *Cert
}

// Option changes what is issued.
type Option func(*request)

type request struct {
	template *x509.Certificate
	key      crypto.Signer
}

// Key has the certificate made for that key instead of a new one on P-256.
func Key(key crypto.Signer) Option { return func(r *request) { r.key = key } }

// Valid sets the validity; else it is from an hour ago for a day.
func Valid(from, to time.Time) Option {
	return func(r *request) { r.template.NotBefore, r.template.NotAfter = from, to }
}

// Names sets the host names that the certificate is for.
func Names(names ...string) Option { return func(r *request) { r.template.DNSNames = names } }

// Template changes anything else.
func Template(change func(*x509.Certificate)) Option { return func(r *request) { change(r.template) } }

// CA makes a root.
func CA(t testing.TB, name string, options ...Option) *Cert {
	t.Helper()
	return issue(t, nil, name, append([]Option{Template(authority)}, options...))
}

// CA makes an intermediate.
func (c *Cert) CA(t testing.TB, name string, options ...Option) *Cert {
	t.Helper()
	return issue(t, c, name, append([]Option{Template(authority)}, options...))
}

// Issue makes a certificate for servers and clients.
func (c *Cert) Issue(t testing.TB, name string, options ...Option) *Cert {
	t.Helper()
	return issue(t, c, name, options)
}

// SelfSigned makes a certificate that is its own issuer and no authority.
func SelfSigned(t testing.TB, name string, options ...Option) *Cert {
	t.Helper()
	return issue(t, nil, name, options)
}

func authority(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
}

func issue(t testing.TB, issuer *Cert, name string, options []Option) *Cert {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	r := request{template: &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}}
	for _, o := range options {
		o(&r)
	}
	if r.key == nil {
		if r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	parent, signer := r.template, r.key
	if issuer != nil {
		parent, signer = issuer.Cert, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, r.template, parent, r.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Cert{Cert: cert, Key: r.key, Issuer: issuer}
}

// ID is the hex SHA-256 of the certificate.
func (c *Cert) ID() string {
	sum := sha256.Sum256(c.Cert.Raw)
	return hex.EncodeToString(sum[:])
}

// PEM of the certificate alone.
func (c *Cert) PEM() string { return Block("CERTIFICATE", c.Cert.Raw) }

// ChainPEM of the certificate and its issuers without the root; of a root the root.
func (c *Cert) ChainPEM() string {
	var b bytes.Buffer
	for at := c; at != nil && (at == c || at.Issuer != nil); at = at.Issuer {
		b.WriteString(at.PEM())
	}
	return b.String()
}

// KeyPEM is the key as PKCS#8.
func (c *Cert) KeyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return Block("PRIVATE KEY", der)
}

// Block writes one PEM block.
func Block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// EncryptedKeyPEM is the key as PKCS#8, encrypted as today's tools do it: PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC.
func (c *Cert) EncryptedKeyPEM(t testing.TB, passphrase string, rounds int) string {
	t.Helper()
	plain, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	_, _ = rand.Read(salt)
	_, _ = rand.Read(iv)
	work := min(rounds, 10_000) // more is only claimed
	derived, err := pbkdf2.Key(sha256.New, passphrase, salt, work, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		t.Fatal(err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	data := append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	type algorithm struct {
		OID    asn1.ObjectIdentifier
		Params any
	}
	type derivation struct {
		Salt   []byte
		Rounds int
		PRF    pkix.AlgorithmIdentifier
	}
	type scheme struct{ KDF, Cipher algorithm }
	hmac := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, Parameters: asn1.NullRawValue}
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Data      []byte
	}{
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, scheme{
			KDF:    algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, derivation{salt, rounds, hmac}},
			Cipher: algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, iv},
		}}, data,
	})
	if err != nil {
		t.Fatal(err)
	}
	return Block("ENCRYPTED PRIVATE KEY", der)
}

// CRL is a revocation list of the authority, valid for a day, with these certificates; change may be nil.
func (c *Cert) CRL(t testing.TB, number int64, change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour)}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.SerialNumber, RevocationTime: now.Add(-time.Minute), ReasonCode: 1,
		})
	}
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
