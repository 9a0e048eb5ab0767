// Package mtlstest is an authority for tests: it signs any certificate a test asks for, good or bad. Only tests use it.
package mtlstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// Authority is a root and an intermediate.
type Authority struct {
	Root         *x509.Certificate
	Intermediate *x509.Certificate
	key          crypto.Signer
	now          func() time.Time
}

// New returns an authority whose certificates are valid for ten years around now.
func New(t testing.TB, now func() time.Time) *Authority {
	t.Helper()
	rootKey, key := NewKey(t), NewKey(t)
	root := template(now(), 10*365*24*time.Hour)
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	root.Subject = pkix.Name{CommonName: "test root"}
	a := &Authority{key: key, now: now}
	a.Root = sign(t, root, root, rootKey.Public(), rootKey)
	between := template(now(), 10*365*24*time.Hour)
	between.IsCA, between.BasicConstraintsValid, between.KeyUsage = true, true, x509.KeyUsageCertSign
	between.Subject = pkix.Name{CommonName: "test intermediate"}
	a.Intermediate = sign(t, between, a.Root, key.Public(), rootKey)
	return a
}

// Pool returns the trust bundle.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Root)
	return p
}

// Leaf describes a certificate.
type Leaf struct {
	URIs  []string
	Usage []x509.ExtKeyUsage
	DNS   []string
	TTL   time.Duration
	// Key is made if nil.
	Key crypto.Signer
	// Public replaces the key's public half, for signing a request whose key we do not have.
	Public crypto.PublicKey
	// NotBefore is a minute ago if zero.
	NotBefore time.Time
}

// Issue signs a certificate; the chain contains the leaf, the intermediate and the root.
func (a *Authority) Issue(t testing.TB, l Leaf) *tls.Certificate {
	t.Helper()
	if l.Key == nil {
		l.Key = NewKey(t)
	}
	if l.Public == nil {
		l.Public = l.Key.Public()
	}
	if l.TTL == 0 {
		l.TTL = time.Hour
	}
	c := template(a.now(), l.TTL)
	if !l.NotBefore.IsZero() {
		c.NotBefore = l.NotBefore
	}
	c.ExtKeyUsage, c.DNSNames, c.KeyUsage = l.Usage, l.DNS, x509.KeyUsageDigitalSignature
	for _, raw := range l.URIs {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("parse test URI: %v", err)
		}
		c.URIs = append(c.URIs, u)
	}
	leaf := sign(t, c, a.Intermediate, l.Public, a.key)
	chain := [][]byte{leaf.Raw, a.Intermediate.Raw, a.Root.Raw}
	return &tls.Certificate{Certificate: chain, PrivateKey: l.Key, Leaf: leaf}
}

// Gateway issues a good gateway certificate for the URI.
func (a *Authority) Gateway(t testing.TB, uri string) *tls.Certificate {
	t.Helper()
	return a.Issue(t, Leaf{URIs: []string{uri}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// ControlPlane issues a good control-plane certificate for the URI.
func (a *Authority) ControlPlane(t testing.TB, uri string) *tls.Certificate {
	t.Helper()
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return a.Issue(t, Leaf{URIs: []string{uri}, Usage: usage, DNS: []string{"localhost"}})
}

// NewKey makes a P-256 key.
func NewKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make key: %v", err)
	}
	return k
}

func template(now time.Time, ttl time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(ttl)}
}

func sign(t testing.TB, c, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		t.Fatalf("sign test certificate: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse test certificate: %v", err)
	}
	return cert
}
