package server_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// issuer signs certificates for tests.
type issuer struct {
	t *testing.T
	*certtest.Cert
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	return &issuer{t, certtest.CA(t, name)}
}

// issued is what an issuer is asked for. The zero value is a certificate that is valid for an hour.
type issued struct {
	names  []string
	key    crypto.Signer
	usage  []x509.ExtKeyUsage // nil: servers and clients
	starts time.Duration      // from now
	lasts  time.Duration
}

func (i *issuer) issue(what issued) *tls.Certificate {
	i.t.Helper()
	if what.lasts == 0 {
		what.lasts = time.Hour
	}
	from := time.Now().Add(-time.Minute).Add(what.starts)
	options := []certtest.Option{certtest.Names(what.names...), certtest.Valid(from, from.Add(what.lasts))}
	if what.key != nil {
		options = append(options, certtest.Key(what.key))
	}
	if what.usage != nil {
		options = append(options, certtest.Template(func(c *x509.Certificate) { c.ExtKeyUsage = what.usage }))
	}
	c := i.Issue(i.t, "leaf", options...)
	return &tls.Certificate{Certificate: [][]byte{c.Cert.Raw}, PrivateKey: c.Key, Leaf: c.Cert}
}

func (i *issuer) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.Cert.Cert)
	return p
}

func version(t *testing.T, c *tls.Certificate) *configv1.CertificateVersion {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &configv1.CertificateVersion{
		Chain:      certtest.Block("CERTIFICATE", c.Leaf.Raw),
		PrivateKey: &configv1.Secret{Set: true, Value: &configv1.Secret_Plaintext{Plaintext: certtest.Block("PRIVATE KEY", key)}},
	}
}

// shownFor is a certificate of the configuration.
func shownFor(t *testing.T, name string, c *tls.Certificate, snis ...string) statetest.Record {
	t.Helper()
	return record(certs.Kind, name, &configv1.Certificate{Name: name, Snis: snis, Current: version(t, c)})
}
