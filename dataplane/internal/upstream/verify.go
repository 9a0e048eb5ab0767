package upstream

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/runtime"
)

// newConfig returns a configuration that believes the roots.
func (t *trust) newConfig(roots *x509.CertPool) *tls.Config {
	c := &tls.Config{
		RootCAs: roots, ServerName: t.conf.ServerName, MinVersion: max(t.conf.MinVersion, tls.VersionTLS12), MaxVersion: t.conf.MaxVersion,
		CipherSuites: t.conf.Suites, NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(sessionsPerService),
	}
	if t.http2 {
		c.NextProtos = []string{"h2"}
	}
	switch {
	case !t.conf.Verify:
		c.InsecureSkipVerify = true // the user says so
		c.VerifyConnection = func(s tls.ConnectionState) error {
			return pinned(t.conf, [][]*x509.Certificate{s.PeerCertificates[:min(1, len(s.PeerCertificates))]})
		}
	case len(t.conf.SANs) > 0:
		c.InsecureSkipVerify = true // verified below, against other names than the one that is sent
		c.VerifyConnection = func(s tls.ConnectionState) error { return verify(t.conf, s, roots) }
	default:
		c.VerifyConnection = func(s tls.ConnectionState) error { return accept(t.conf, s.VerifiedChains) }
	}
	return c
}

// verify does what crypto/tls would, but for names of our own.
func verify(conf *runtime.TLS, s tls.ConnectionState, roots *x509.CertPool) error {
	leaf := s.PeerCertificates[0]
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(o)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	if !slices.ContainsFunc(conf.SANs, func(name string) bool { return isFor(leaf, name) }) {
		return errors.New("the certificate is for none of the names that are allowed")
	}
	return accept(conf, chains)
}

// isFor says whether a certificate is for a host name, an address or a URI.
func isFor(c *x509.Certificate, name string) bool {
	if strings.Contains(name, "://") {
		for _, u := range c.URIs {
			if u.String() == name {
				return true
			}
		}
		return false
	}
	return c.VerifyHostname(name) == nil
}

// accept says whether one of the verified chains is short enough and pinned.
func accept(conf *runtime.TLS, chains [][]*x509.Certificate) error {
	if conf.Depth == nil {
		return pinned(conf, chains)
	}
	var short [][]*x509.Certificate
	for _, chain := range chains {
		if len(chain)-2 <= *conf.Depth { // neither the target's nor the authority's counts
			short = append(short, chain)
		}
	}
	if len(short) == 0 {
		return errors.New("there are too many certificates between the target's and the authority's")
	}
	return pinned(conf, short)
}

// pinned checks that a pinned key is in one of the chains. It is in addition to their verification; where that is switched
// off only the certificate whose key was proven is given.
func pinned(conf *runtime.TLS, chains [][]*x509.Certificate) error {
	if len(conf.Pins) == 0 {
		return nil
	}
	for _, chain := range chains {
		for _, c := range chain {
			if slices.Contains(conf.Pins, sha256.Sum256(c.RawSubjectPublicKeyInfo)) {
				return nil
			}
		}
	}
	return errors.New("no key of the certificate chain is pinned")
}
