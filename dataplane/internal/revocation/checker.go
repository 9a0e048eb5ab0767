// Package revocation says whether clients' certificates are revoked: by revocation lists, which are part of the runtime, and
// by what responders (OCSP) answer, which a Cache keeps for as long as the process lives. A Checker is immutable and belongs
// to one CA certificate of the configuration; it only looks up what is known and never waits. Who wants to wait for a first
// answer says so to the Cache; package server does, in handshakes. Package clientcert asks Checkers.
package revocation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/check/revocation"
)

// Status is what is known of a certificate.
type Status = revocation.Status

// Finding is what is known of a chain of certificates.
type Finding struct {
	Status Status
	// Until is when what is known is out of date; zero: it does not end by itself.
	Until time.Time
	// Strict: a chain of which nothing is known is not to be believed.
	Strict bool
	// Told are the answers that the finding rests on. It holds no longer when one of them has changed.
	Told []Told
}

// Told is the answer of a responder, as it was.
type Told struct {
	entry  *Entry
	answer *answer
}

// Changed reports whether there is another answer by now. Asking notes that the answer is still of interest.
func (t *Told) Changed() bool { return t.entry.look() != t.answer }

// Checker knows the sources of a CA certificate.
type Checker struct {
	rules *revocation.Rules
	lists map[authority]*revocation.List
	// distrusted are those of the authorities themselves that are revoked.
	distrusted map[[sha256.Size]byte]bool
	cache      *Cache
	egress     *hostsvc.EgressRules
}

// authority identifies an issuer by name and key: what it is known by may be another certificate of it.
type authority [sha256.Size]byte

func authorityOf(c *x509.Certificate) authority {
	h := sha256.New()
	h.Write(c.RawSubjectPublicKeyInfo) // says itself how long it is
	h.Write(c.RawSubject)
	return authority(h.Sum(nil))
}

// New returns a checker. The lists are all that there are, given and fetched; of several of one authority the newest counts.
// Responders are asked within the egress rules.
func New(rules *revocation.Rules, lists []*revocation.List, authorities []*x509.Certificate, cache *Cache, egress *hostsvc.EgressRules) *Checker {
	c := &Checker{rules: rules, lists: map[authority]*revocation.List{}, distrusted: map[[sha256.Size]byte]bool{}, cache: cache, egress: egress}
	for _, l := range lists {
		by := authorityOf(l.Issuer)
		if old := c.lists[by]; old == nil || old.Before(l) {
			c.lists[by] = l
		}
	}
	for _, a := range authorities {
		for _, l := range c.lists {
			if bytes.Equal(l.Issuer.RawSubject, a.RawIssuer) && l.Revoked(a.SerialNumber) && a.CheckSignatureFrom(l.Issuer) == nil {
				c.distrusted[sha256.Sum256(a.Raw)] = true
			}
		}
	}
	return c
}

// Rules are what the configuration says.
func (c *Checker) Rules() *revocation.Rules { return c.rules }

// Lists are those that count, in no order.
func (c *Checker) Lists() []*revocation.List {
	out := make([]*revocation.List, 0, len(c.lists))
	for _, l := range c.lists {
		out = append(out, l)
	}
	return out
}

// Judge looks up what is known of a verified chain at a time: it is revoked if one of its certificates is, and good if all are.
// The last one is the authority: it is believed, unless a list says that it is revoked.
func (c *Checker) Judge(chain []*x509.Certificate, at time.Time) Finding {
	f := Finding{Status: revocation.Good, Strict: c.rules.Strict}
	if c.distrusted[sha256.Sum256(chain[len(chain)-1].Raw)] {
		f.Status = revocation.Revoked
		return f
	}
	for i := range chain[:len(chain)-1] {
		f = f.And(c.one(chain[i], chain[i+1], at))
	}
	return f
}

// And is what two findings come to together.
func (f Finding) And(other Finding) Finding {
	out := Finding{Strict: f.Strict || other.Strict, Told: append(f.Told, other.Told...), Until: f.Until}
	switch {
	case f.Status == revocation.Revoked || other.Status == revocation.Revoked:
		out.Status = revocation.Revoked
	case f.Status == revocation.Good && other.Status == revocation.Good:
		out.Status = revocation.Good
	}
	if !other.Until.IsZero() && (out.Until.IsZero() || other.Until.Before(out.Until)) {
		out.Until = other.Until
	}
	return out
}

// one looks up a certificate: revoked if any source says so, good if one does that is not out of date.
func (c *Checker) one(certificate, issuer *x509.Certificate, at time.Time) Finding {
	f := Finding{}
	if l := c.lists[authorityOf(issuer)]; l != nil {
		switch {
		case l.Revoked(certificate.SerialNumber):
			f.Status = revocation.Revoked
			return f
		case l.FreshAt(at):
			f.Status, f.Until = revocation.Good, l.NextUpdate
		}
	}
	if !c.rules.OCSP {
		return f
	}
	url := c.rules.Responder
	if url == "" && len(certificate.OCSPServer) > 0 {
		url = certificate.OCSPServer[0]
	}
	if url == "" {
		return f
	}
	e := c.cache.entry(question{certificate, issuer, url, c.egress, c.rules.Timeout, c.rules.Refresh})
	now := e.look()
	f.Told = []Told{{e, now}}
	switch {
	case now == nil || at.After(now.until) && now.Status != revocation.Revoked:
	case now.Status == revocation.Revoked:
		f.Status, f.Until = revocation.Revoked, time.Time{}
	case now.Status == revocation.Good:
		if f.Status != revocation.Good || now.until.After(f.Until) { // either source is enough
			f.Until = now.until
		}
		f.Status = revocation.Good
	}
	return f
}
