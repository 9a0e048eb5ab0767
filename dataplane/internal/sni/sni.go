// Package sni says which certificate a gateway shows in a TLS handshake: that of the exact name the client asks for, else
// that of the pattern one level above it, else the default; and what is spoken under the name. A Table is immutable and part of the runtime. It reads no
// files and speaks no TLS; compile builds it, the server asks it.
package sni

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"keyward.dev/shared/check/certs"
)

// Certificate is what a reference to a certificate of the configuration shows. It is never changed.
type Certificate struct {
	UID string
	Set *certs.Set
	// reference is the certificate's name, or the id of one version.
	reference string
	shown     map[*certs.Version]*shown
	rank      int    // those with a lower one are shown first
	terms     *Terms // for its names; nil: as for all
}

// shown is a version as it is shown.
type shown struct {
	plain *tls.Certificate
	// stapled is it with an answer of its responder, which is in force until then; nil: there is none.
	stapled *tls.Certificate
	until   time.Time
	needed  bool // it is not shown without
}

// at is what is shown at a time, nil if nothing is.
func (s *shown) at(t time.Time) *tls.Certificate {
	switch {
	case s == nil:
		return nil
	case s.stapled != nil && t.Before(s.until):
		return s.stapled
	case s.needed:
		return nil
	}
	return s.plain
}

// Staple is an answer of a version's responder (OCSP).
type Staple struct {
	Answer []byte
	// Until is when it must not be sent any more.
	Until time.Time
	// Needed: without an answer that is in force the version is not shown.
	Needed bool
}

// Closed is what is there of a certificate that cannot be used: it has names, and shows nothing for them.
func Closed(uid, name string, names []string) *Certificate {
	return &Certificate{UID: uid, Set: &certs.Set{Name: name, SNIs: names}, reference: name}
}

// Open makes a certificate ready to be shown under its name.
func Open(uid string, set *certs.Set) *Certificate {
	c := &Certificate{UID: uid, Set: set, reference: set.Name, shown: map[*certs.Version]*shown{}, rank: rankRSA}
	for _, v := range []*certs.Version{set.Current, set.Next, set.Previous} {
		if v == nil || v.Key == nil {
			continue
		}
		t := &tls.Certificate{PrivateKey: v.Key, Leaf: v.Leaf()}
		for _, link := range v.Chain {
			t.Certificate = append(t.Certificate, link.Raw)
		}
		c.shown[v], c.rank = &shown{plain: t}, min(c.rank, rankOf(v))
	}
	return c
}

// Only is the certificate as a reference by the id of one version shows it: that version or nothing.
func (c *Certificate) Only(id string) *Certificate {
	one := *c
	one.reference = id
	return &one
}

// Stapled is the certificate with answers of responders, the same one if there are none and none is needed. Its keys are the
// same ones in any case.
func (c *Certificate) Stapled(of func(*certs.Version) Staple) *Certificate {
	out, same := *c, true
	out.shown = make(map[*certs.Version]*shown, len(c.shown))
	for v, old := range c.shown {
		s, now := of(v), &shown{plain: old.plain}
		same = same && !s.Needed && len(s.Answer) == 0
		if now.needed = s.Needed; len(s.Answer) > 0 {
			with := *old.plain
			with.OCSPStaple = s.Answer
			now.stapled, now.until = &with, s.Until
		}
		out.shown[v] = now
	}
	if same {
		return c
	}
	return &out
}

// StapledUntil is until when what is shown at a time is shown with an answer of its responder; zero: it is without.
func (c *Certificate) StapledUntil(t time.Time) time.Time {
	if v := c.At(t); v != nil && c.shown[v].at(t) == c.shown[v].stapled {
		return c.shown[v].until
	}
	return time.Time{}
}

// At returns the version that is shown at a time, nil if there is none: neither one that is not valid then, nor one
// without a key, nor one without an answer of its responder that it must not be shown without.
func (c *Certificate) At(t time.Time) *certs.Version {
	v := c.Set.For(c.reference, t)
	if !v.ValidAt(t) || c.shown[v].at(t) == nil {
		return nil
	}
	return v
}

// Ends is when there will be nothing left to show; zero if there never is anything.
func (c *Certificate) Ends() (end time.Time) {
	for v := range c.shown {
		of := v.Leaf().NotAfter
		if v.ID == c.reference || c.reference == c.Set.Name && v != c.Set.Previous {
			if of.After(end) {
				end = of
			}
		}
	}
	return end
}

// Table finds certificates by name.
type Table struct {
	names    map[string]Choice
	defaults Choice
	all      []*Certificate
	// terms are for exact names, wildTerms for what is one level below; nil if no certificate says anything.
	terms, wildTerms map[string]*Terms
	torn             []Torn
}

// Choice are the certificates for one name, the preferred first: mostly one, else of different kinds of keys.
type Choice []*Certificate

// New returns the table of certificates, whatever their order. Those in defaults are for every other name, and for
// clients that say none; nil: there are none.
func New(all, defaults []*Certificate) *Table {
	t := &Table{names: make(map[string]Choice, len(all)), all: slices.Clone(all), defaults: slices.Clone(defaults)}
	slices.SortFunc(t.all, prefer)
	slices.SortFunc(t.defaults, prefer)
	for _, c := range t.all {
		for _, name := range c.Set.SNIs {
			t.names[name] = append(t.names[name], c)
		}
	}
	t.agree()
	return t
}

// prefer puts the keys first that cost least, and then goes by what never changes.
func prefer(a, b *Certificate) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.UID, b.UID))
}

// Ranks of keys: a signature with ECDSA costs a fraction of one with RSA, and every client knows it but old ones; Ed25519
// few know.
const (
	rankECDSA = iota
	rankEd25519
	rankRSA
)

func rankOf(v *certs.Version) int {
	switch v.Key.(type) {
	case *ecdsa.PrivateKey:
		return rankECDSA
	case ed25519.PrivateKey:
		return rankEd25519
	default:
		return rankRSA
	}
}

// Find returns the certificates for a name in lower case, empty if the client gave none. The result is empty if no
// certificate is for it and there is no default; one that has expired still keeps its names for itself.
func (t *Table) Find(name string) Choice {
	if t == nil {
		return nil
	}
	if c, ok := t.names[name]; ok {
		return c
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if c, ok := t.names["*."+parent]; ok {
			return c
		}
	}
	return t.defaults
}

// All returns the certificates that are shown for some name or as the default, in an order that depends on nothing else.
func (t *Table) All() []*Certificate {
	if t == nil {
		return nil
	}
	return t.all
}

// Defaults returns those shown where no other is.
func (t *Table) Defaults() []*Certificate {
	if t == nil {
		return nil
	}
	return t.defaults
}

// For returns what is shown to a client at a time: the first certificate that it can verify, else the first that there is.
// It is nil if none is valid.
func (c Choice) For(hello *tls.ClientHelloInfo, at time.Time) *tls.Certificate {
	anyName := *hello
	anyName.ServerName = "" // whether the certificate is for the name was settled when it was admitted
	var first *tls.Certificate
	for _, one := range c {
		v := one.At(at)
		if v == nil {
			continue
		}
		shown := one.shown[v].at(at)
		if len(c) == 1 || anyName.SupportsCertificate(shown) == nil {
			return shown
		}
		if first == nil {
			first = shown
		}
	}
	return first
}

// Valid reports whether there is something to show at a time.
func (c Choice) Valid(at time.Time) bool {
	return slices.ContainsFunc(c, func(one *Certificate) bool { return one.At(at) != nil })
}
