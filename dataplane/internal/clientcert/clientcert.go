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
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/shared/check/certname"
	known "keyward.dev/shared/check/revocation"
)

// Errors of Policy.Verify.
var (
	ErrMissing = errors.New("no client certificate")
	ErrInvalid = errors.New("the client certificate is not valid now")
	ErrRefused = errors.New("the client certificate is not allowed")
	ErrRevoked = errors.New("the client certificate is revoked")
	// ErrUnsure is no refusal: whoever would know does not answer.
	ErrUnsure = errors.New("it cannot be found out whether the client certificate is revoked")
)

// Policy says which certificates are believed: some as they are, and those that some authorities have issued. One that names
// nobody believes nobody.
type Policy struct {
	pins  map[[sha256.Size]byte]struct{}
	roots *x509.CertPool // nil: none
	// checkers say what is revoked of what authorities have issued, by the hashes of these.
	checkers map[[sha256.Size]byte][]*revocation.Checker
	tally    *revocation.Tally
}

// Authorities are believed together. Checker says what of theirs is revoked; nil: nobody asks.
type Authorities struct {
	Certificates []*x509.Certificate
	Checker      *revocation.Checker
}

// New returns a policy. Pins are the SHA-256 hashes of certificates. Tally counts what came of asking whether certificates are
// revoked; nil if nobody asks. Of an authority that comes several times all checkers have to agree.
func New(pins [][sha256.Size]byte, believed []Authorities, tally *revocation.Tally) *Policy {
	p := &Policy{
		pins:     make(map[[sha256.Size]byte]struct{}, len(pins)),
		checkers: map[[sha256.Size]byte][]*revocation.Checker{}, tally: tally,
	}
	for _, pin := range pins {
		p.pins[pin] = struct{}{}
	}
	for _, b := range believed {
		for _, ca := range b.Certificates {
			if p.roots == nil {
				p.roots = x509.NewCertPool()
			}
			p.roots.AddCert(ca)
			if b.Checker != nil {
				at := sha256.Sum256(ca.Raw)
				p.checkers[at] = append(p.checkers[at], b.Checker)
			}
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
	v := p.judge(chain, at)
	p.count(&v)
	return v.until, v.err
}

// Asks reports whether anybody asks what is revoked.
func (p *Policy) Asks() bool { return len(p.checkers) > 0 }

// Missing is what is not known yet of a chain, for who wants to wait for it.
func (p *Policy) Missing(chain []*x509.Certificate, at time.Time) revocation.Finding {
	return revocation.Finding{Told: p.judge(chain, at).told}
}

// judge decides about a chain. Of several ways to an authority the best counts.
func (p *Policy) judge(chain []*x509.Certificate, at time.Time) verdict {
	v := verdict{policy: p}
	if len(chain) == 0 {
		v.err = ErrMissing
		return v
	}
	leaf := chain[0]
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		v.err = ErrInvalid
		return v
	}
	if _, ok := p.pins[sha256.Sum256(leaf.Raw)]; ok {
		v.until = leaf.NotAfter
		return v
	}
	if v.err = ErrRefused; p.roots == nil {
		return v
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		v.err = fmt.Errorf("%w: %w", ErrRefused, err)
		return v
	}
	for _, c := range chains {
		v.or(p.revoked(c, at), ends(c))
	}
	return v
}

// revoked finds out what is known of a verified chain.
func (p *Policy) revoked(chain []*x509.Certificate, at time.Time) revocation.Finding {
	f := revocation.Finding{Status: known.Good}
	if len(p.checkers) == 0 {
		return f
	}
	for _, c := range p.checkers[sha256.Sum256(chain[len(chain)-1].Raw)] {
		f = f.And(c.Judge(chain, at))
	}
	return f
}

// or adds what is known of one more way to an authority, which ends then: what is known goes before what is not.
func (v *verdict) or(f revocation.Finding, end time.Time) {
	v.told = append(v.told, f.Told...)
	if !f.Until.IsZero() && f.Until.Before(end) {
		end = f.Until
	}
	err, rank := error(nil), rankGood
	switch {
	case f.Status == known.Revoked:
		err, rank, end = ErrRevoked, rankRevoked, time.Time{}
	case f.Status == known.Unknown && f.Strict:
		err, rank, end = ErrUnsure, rankUnsure, time.Time{}
	case f.Status == known.Unknown:
		rank = rankGuessed
	}
	switch {
	case rank > v.rank:
		v.rank, v.err, v.until = rank, err, end
	case rank == v.rank && end.After(v.until):
		v.until = end
	}
}

// Ranks of what is known of a way to an authority.
const (
	rankNone = iota
	rankUnsure
	rankGuessed // let in although nobody could tell whether it is revoked
	rankRevoked
	rankGood
)

// count counts what a verdict says of revocation.
func (p *Policy) count(v *verdict) {
	switch {
	case p.tally == nil:
	case errors.Is(v.err, ErrRevoked):
		p.tally.Revoked.Add(1)
	case errors.Is(v.err, ErrUnsure):
		p.tally.Unsure.Add(1)
	case v.rank == rankGuessed:
		p.tally.LetIn.Add(1)
	}
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
	rank   int // of what is known; only of what authorities have issued
	// told are the answers of responders that it rests on.
	told []revocation.Told
}

// holds reports whether it is still what the policy would say.
func (v *verdict) holds(at time.Time) bool {
	if at.After(v.until) {
		return false
	}
	for i := range v.told {
		if v.told[i].Changed() {
			return false
		}
	}
	return true
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
		if v := &kept[i]; v.policy == policy && v.holds(at) {
			return v.err
		}
	}
	v := policy.judge(p.chain, at)
	policy.count(&v)
	if v.err != nil {
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
