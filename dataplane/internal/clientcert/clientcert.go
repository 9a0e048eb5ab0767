// Package clientcert decides which clients may come, by the certificate with which they made their TLS connection. A Policy
// is immutable and part of the runtime; a Peer belongs to a connection. The package shakes no hands and knows no requests:
// the server asks it in both.
package clientcert

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/shared/check/certname"
)

// Errors of Policy.Verify.
var (
	ErrMissing = errors.New("no client certificate")
	ErrInvalid = errors.New("the client certificate is not valid now")
	ErrRefused = errors.New("the client certificate is not allowed")
)

// Policy says which certificates are believed: some as they are, and those that some authorities have issued. One that names
// nobody believes nobody.
type Policy struct {
	pins  map[[sha256.Size]byte]struct{}
	roots *x509.CertPool // nil: none
}

// New returns a policy. Pins are the SHA-256 hashes of certificates.
func New(pins [][sha256.Size]byte, authorities []*x509.Certificate) *Policy {
	p := &Policy{pins: make(map[[sha256.Size]byte]struct{}, len(pins))}
	for _, pin := range pins {
		p.pins[pin] = struct{}{}
	}
	if len(authorities) > 0 {
		p.roots = x509.NewCertPool()
		for _, ca := range authorities {
			p.roots.AddCert(ca)
		}
	}
	return p
}

// Key is equal for equal choices of certificates that are believed: references to certificates, and names of CA
// certificates, both sorted and without repetition.
func Key(allow, ca []string) string {
	return strings.Join(allow, " ") + "," + strings.Join(ca, " ") // no name has a space or a comma
}

// Names sorts names and drops those that are repeated.
func Names(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// Authorities are those that clients may be told of, so that they choose a certificate that is believed; nil if they must
// not be, because certificates of others are believed, too.
func (p *Policy) Authorities() *x509.CertPool {
	if len(p.pins) > 0 {
		return nil
	}
	return p.roots
}

// Verify decides about the chain that a client has shown, the leaf first, whose key it has proved to have. Without an error
// the answer holds until then. What expired is refused in either case.
func (p *Policy) Verify(chain []*x509.Certificate, at time.Time) (until time.Time, err error) {
	if len(chain) == 0 {
		return until, ErrMissing
	}
	leaf := chain[0]
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		return until, ErrInvalid
	}
	if _, ok := p.pins[sha256.Sum256(leaf.Raw)]; ok {
		return leaf.NotAfter, nil
	}
	if p.roots == nil {
		return until, ErrRefused
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return until, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	for _, c := range chains {
		if end := ends(c); end.After(until) {
			until = end
		}
	}
	return until, nil
}

// ends is when the first certificate of a chain expires.
func ends(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// Peer is what is known of a client since its handshake. It is safe for concurrent use: streams share a connection.
type Peer struct {
	// Name is the server name that the client asked for, in lower case; empty: none.
	Name string
	// Version, Suite, Curve and Protocol are what the connection speaks, the last one as ALPN calls it; empty: HTTP/1.1, unsaid.
	Version, Suite uint16
	Curve          tls.CurveID
	Protocol       string

	chain []*x509.Certificate
	last  atomic.Pointer[[]verdict]
	says  func() *exchange.Certificate
	field func() []byte
}

// verdict is what a policy said.
type verdict struct {
	policy *Policy
	until  time.Time
	err    error
}

// maxVerdicts are kept of a connection, the last ones. Most only ever meet one policy or two: that of the name, and that of
// a way to authenticate.
const maxVerdicts = 8

// refusedFor is how long a refusal counts for further requests, so that they cost no signature each.
const refusedFor = time.Second

// NewPeer returns the peer of a connection whose handshake has ended.
func NewPeer(s *tls.ConnectionState) *Peer {
	p := &Peer{
		Name: strings.ToLower(s.ServerName), Version: s.Version, Suite: s.CipherSuite, Curve: s.CurveID, Protocol: s.NegotiatedProtocol,
		chain: s.PeerCertificates,
	}
	if len(p.chain) > 0 {
		p.says, p.field = sync.OnceValue(p.names), sync.OnceValue(p.encode)
	}
	return p
}

// Names returns what the client's certificate says of its owner, worked out when it is first asked for; nil if there is
// none. Whether it is to be believed Verify says.
func (p *Peer) Names() *exchange.Certificate {
	if p == nil || p.says == nil {
		return nil
	}
	return p.says()
}

// Field returns the client's certificate as the value of a field (RFC 9440 section 2.1), made when it is first asked for; nil
// if there is none. Nobody may write to it.
func (p *Peer) Field() []byte {
	if p == nil || p.field == nil {
		return nil
	}
	return p.field()
}

func (p *Peer) encode() []byte {
	return append(base64.StdEncoding.AppendEncode([]byte{':'}, p.chain[0].Raw), ':')
}

func (p *Peer) names() *exchange.Certificate {
	c := &exchange.Certificate{}
	for _, n := range certname.Of(p.chain[0]) {
		switch n.Kind {
		case certname.Fingerprint:
			c.Fingerprint = append(c.Fingerprint, n.Hash())
		case certname.SAN:
			c.SANs = append(c.SANs, n.Hash())
		case certname.Subject:
			c.Subjects = append(c.Subjects, n.Hash())
		}
	}
	return c
}

// Verify asks a policy about the peer, nil if it may come. It allocates nothing as long as the policies are the same few.
func (p *Peer) Verify(policy *Policy, at time.Time) error {
	if p == nil || len(p.chain) == 0 {
		return ErrMissing
	}
	var kept []verdict
	if last := p.last.Load(); last != nil {
		kept = *last
	}
	for i := range kept {
		if v := &kept[i]; v.policy == policy && !at.After(v.until) {
			return v.err
		}
	}
	v := verdict{policy: policy}
	if v.until, v.err = policy.Verify(p.chain, at); v.err != nil {
		v.until = at.Add(refusedFor)
	}
	now := []verdict{v} // the list is shared: it is replaced, by whoever comes last
	for _, old := range kept {
		if old.policy != policy && len(now) < maxVerdicts {
			now = append(now, old)
		}
	}
	p.last.Store(&now)
	return v.err
}
