package upstream

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
)

// errTrustLost is wrapped by the error of a dial that could not be verified, so that it was not tried.
var errTrustLost = errors.New("it is not known whom to trust")

// sessionsPerService is how many TLS sessions are kept for later connections.
const sessionsPerService = 64

// trust is how the targets of a service prove who they are. Its CA files are read again when they change; while they
// cannot be read there are no connections.
type trust struct {
	name  string
	conf  *runtime.TLS
	http2 bool
	files *hostsvc.Files
	log   *slog.Logger

	config atomic.Pointer[tls.Config] // nil: a file cannot be read
	stamp  string                     // of the files as last loaded; used by check
	seen   string                     // of the files as last looked at; used by check
}

func newTrust(s *runtime.Service, files *hostsvc.Files, log *slog.Logger) *trust {
	t := &trust{name: s.Name, conf: s.TLS, http2: s.Protocol == runtime.HTTP2, files: files, log: log}
	t.stamp = t.stamps(map[string]string{})
	t.seen = t.stamp
	t.load()
	return t
}

// check loads changed files and says whether it did. A file is loaded only when it was the same twice: it may be half
// written.
func (t *trust) check(known map[string]string) bool {
	if len(t.conf.CA) == 0 {
		return false
	}
	now := t.stamps(known)
	if now != t.seen || now == t.stamp {
		t.seen = now
		return false
	}
	t.stamp = now
	t.load()
	return true
}

func (t *trust) stamps(known map[string]string) string {
	var b strings.Builder
	for _, path := range t.conf.CA {
		if known[path] == "" {
			known[path] = t.files.Stamp(path)
		}
		b.WriteString(known[path])
		b.WriteByte(';')
	}
	return b.String()
}

func (t *trust) load() {
	roots, err := t.roots()
	if err != nil {
		t.config.Store(nil)
		t.log.Error("service closed: its CA cannot be read", "service", t.name, "err", err)
		return
	}
	t.config.Store(t.newConfig(roots))
}

// roots returns nil for the system's.
func (t *trust) roots() (*x509.CertPool, error) {
	if len(t.conf.CA) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	for _, path := range t.conf.CA {
		pem, err := t.files.Read(path)
		if err != nil {
			return nil, err
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", path)
		}
	}
	return roots, nil
}

func (t *trust) newConfig(roots *x509.CertPool) *tls.Config {
	c := &tls.Config{
		RootCAs: roots, ServerName: t.conf.ServerName, MinVersion: max(t.conf.MinVersion, tls.VersionTLS12), MaxVersion: t.conf.MaxVersion,
		NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(sessionsPerService),
	}
	if t.http2 {
		c.NextProtos = []string{"h2"}
	}
	switch {
	case !t.conf.Verify:
		c.InsecureSkipVerify = true // the user says so
		c.VerifyConnection = func(s tls.ConnectionState) error {
			return t.pinned([][]*x509.Certificate{s.PeerCertificates[:min(1, len(s.PeerCertificates))]})
		}
	case len(t.conf.SANs) > 0:
		c.InsecureSkipVerify = true // verified below, against other names than the one that is sent
		c.VerifyConnection = func(s tls.ConnectionState) error { return t.verify(s, roots) }
	default:
		c.VerifyConnection = func(s tls.ConnectionState) error { return t.pinned(s.VerifiedChains) }
	}
	return c
}

// verify does what crypto/tls would, but for names of our own.
func (t *trust) verify(s tls.ConnectionState, roots *x509.CertPool) error {
	leaf := s.PeerCertificates[0]
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(o)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	if !slices.ContainsFunc(t.conf.SANs, func(name string) bool { return isFor(leaf, name) }) {
		return errors.New("the certificate is for none of the names that are allowed")
	}
	return t.pinned(chains)
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

// pinned checks that a pinned key is in one of the chains. It is in addition to their verification; where that is switched
// off only the certificate whose key was proven is given.
func (t *trust) pinned(chains [][]*x509.Certificate) error {
	if len(t.conf.Pins) == 0 {
		return nil
	}
	for _, chain := range chains {
		for _, c := range chain {
			if slices.Contains(t.conf.Pins, sha256.Sum256(c.RawSubjectPublicKeyInfo)) {
				return nil
			}
		}
	}
	return errors.New("no key of the certificate chain is pinned")
}

// forTarget returns the configuration for a connection to a target with this name.
func (t *trust) forTarget(hostname string) (*tls.Config, error) {
	c := t.config.Load()
	if c == nil {
		return nil, errTrustLost
	}
	if c.ServerName == "" {
		c = c.Clone()
		c.ServerName = hostname
	}
	return c, nil
}
