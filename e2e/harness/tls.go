package harness

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate is what a TLS listener or a TLS upstream is given: files that can be renewed, and the authority behind them.
type Certificate struct {
	CertFile, KeyFile, CAFile string
	Roots                     *x509.CertPool

	names []string
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
}

// NewCertificate makes an authority and a certificate for the names.
func NewCertificate(t testing.TB, names ...string) *Certificate {
	t.Helper()
	dir := t.TempDir()
	c := &Certificate{
		CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), CAFile: filepath.Join(dir, "ca.crt"),
		Roots: x509.NewCertPool(), names: names, caKey: NewKey(t),
	}
	template := c.template("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	c.ca = issue(t, template, template, c.caKey, c.caKey)
	c.Roots.AddCert(c.ca)
	replaceFile(t, c.CAFile, encode("CERTIFICATE", c.ca.Raw))
	c.Renew(t)
	return c
}

// Authority is who signs the certificates.
func (c *Certificate) Authority() *x509.Certificate { return c.ca }

// Renew puts another certificate of the same authority into the files and returns its serial number.
func (c *Certificate) Renew(t testing.TB) *big.Int {
	t.Helper()
	key := NewKey(t)
	template := c.template(c.names[0])
	template.DNSNames, template.KeyUsage = c.names, x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf := issue(t, template, c.ca, key, c.caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, c.KeyFile, encode("PRIVATE KEY", der))
	replaceFile(t, c.CertFile, encode("CERTIFICATE", leaf.Raw))
	return leaf.SerialNumber
}

func (c *Certificate) template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func issue(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// PinOf is the hash of a certificate's public key in Base64.
func PinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// replaceFile never leaves half a file to a reader.
func replaceFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
