package sni

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
)

// Terms is how TLS is spoken with clients: by all that a gateway serves, or under some names instead of that. What is zero is
// left to the wider terms, and to crypto/tls where there are none. It is never changed.
type Terms struct {
	// Key is equal for equal terms, and empty where nothing is said.
	Key string
	// MinVersion and MaxVersion are crypto/tls's numbers, as is all here.
	MinVersion, MaxVersion uint16
	// Suites are those of TLS 1.2, Curves the key exchanges.
	Suites []uint16
	Curves []tls.CurveID
	// Protocols are those of ALPN, the preferred one first.
	Protocols []string
	// Tickets: sessions are resumed.
	Tickets *bool
	// HSTS is put on every response over TLS.
	HSTS *exchange.Header
}

// Into puts what the terms say into a configuration.
func (t *Terms) Into(c *tls.Config) {
	if t == nil {
		return
	}
	if t.MinVersion != 0 {
		c.MinVersion = t.MinVersion
	}
	if t.MaxVersion != 0 {
		c.MaxVersion = t.MaxVersion
	}
	if len(t.Suites) > 0 {
		c.CipherSuites = t.Suites
	}
	if len(t.Curves) > 0 {
		c.CurvePreferences = t.Curves
	}
	if len(t.Protocols) > 0 {
		c.NextProtos = t.Protocols
	}
	if t.Tickets != nil {
		c.SessionTicketsDisabled = !*t.Tickets
	}
}

// Spoken is what a connection speaks.
type Spoken struct {
	Version, Suite uint16
	Curve          tls.CurveID
	Protocol       string
}

// Meets reports whether a connection that was made under another name speaks what is wanted by the wide terms and, before them, the
// narrow ones, of which there may be none.
func (s Spoken) Meets(wide, narrow *Terms) bool {
	if narrow == nil {
		narrow = &Terms{}
	}
	lowest, highest := cmp.Or(narrow.MinVersion, wide.MinVersion), cmp.Or(narrow.MaxVersion, wide.MaxVersion)
	return s.Version >= lowest && (highest == 0 || s.Version <= highest) &&
		(s.Version >= tls.VersionTLS13 || among(s.Suite, narrow.Suites, wide.Suites)) && // those of TLS 1.3 cannot be chosen
		among(s.Curve, narrow.Curves, wide.Curves) &&
		among(cmp.Or(s.Protocol, "http/1.1"), narrow.Protocols, wide.Protocols)
}

// among reports whether something is in the first list that says anything, or whether none does.
func among[T comparable](one T, lists ...[]T) bool {
	for _, list := range lists {
		if len(list) > 0 {
			return slices.Contains(list, one)
		}
	}
	return true
}

// On is the certificate with terms for its names, nil if it says nothing of them.
func (c *Certificate) On(t *Terms) *Certificate {
	one := *c
	one.terms = t
	return &one
}

// KeyOf is the key of terms, also of none.
func (t *Terms) KeyOf() string {
	if t == nil {
		return ""
	}
	return t.Key
}

// Torn is a name whose certificates say different things of how TLS is spoken under it. It is closed: none of them may be
// weaker than what was meant.
type Torn struct {
	Name         string
	Certificates Choice
}

// agree finds what is spoken under each name, and closes those of which it is not clear.
func (t *Table) agree() {
	if !slices.ContainsFunc(t.all, func(c *Certificate) bool { return c.terms != nil }) {
		return
	}
	t.terms, t.wildTerms = make(map[string]*Terms, len(t.names)), map[string]*Terms{}
	for name, choice := range t.names {
		differs := func(c *Certificate) bool { return c.terms.KeyOf() != choice[0].terms.KeyOf() }
		if slices.ContainsFunc(choice, differs) {
			t.torn = append(t.torn, Torn{name, choice})
			t.names[name] = Choice{Closed("", name, []string{name})}
			continue
		}
		if parent, ok := strings.CutPrefix(name, "*."); ok {
			t.wildTerms[parent] = choice[0].terms
		} else {
			t.terms[name] = choice[0].terms // nil, too: it hides what is said of a wider name
		}
	}
}

// Torn are the names that are closed because their certificates disagree.
func (t *Table) Torn() []Torn { return t.torn }

// Uniform reports whether TLS is spoken under all names alike.
func (t *Table) Uniform() bool { return t == nil || t.terms == nil }

// Terms returns what is said of how TLS is spoken under a name in lower case, nil if nothing is. What a certificate says is for
// the names it is shown for, and not for those that find it as the default.
func (t *Table) Terms(name []byte) *Terms {
	if t.Uniform() {
		return nil
	}
	if terms, ok := t.terms[string(name)]; ok {
		return terms
	}
	if _, parent, ok := bytes.Cut(name, []byte(".")); ok {
		return t.wildTerms[string(parent)]
	}
	return nil
}
