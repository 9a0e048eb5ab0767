package clientcert_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/revocation"
	known "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

// TestRevoked has a certificate with one way to an authority, and one with two, of which different things are known.
func TestRevoked(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca, other := certtest.CA(t, "ca"), certtest.CA(t, "other")
	middle := ca.CA(t, "middle")
	crossed := other.CA(t, "middle", certtest.Key(middle.Key))
	leaf := middle.Issue(t, "leaf")
	shown := chain(leaf, middle, crossed)
	cache := revocation.NewCache(nil)
	list := func(of *certtest.Cert, revoked ...*x509.Certificate) *known.List {
		l, err := known.Parse(of.CRL(t, 1, nil, revoked...), chain(of))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	with := func(of *certtest.Cert, strict bool, lists ...*known.List) clientcert.Authorities {
		return clientcert.Authorities{Certificates: chain(of), Checker: revocation.New(&known.Rules{Strict: strict}, lists, chain(of), cache, nil)}
	}
	good, revoked := list(middle), list(middle, leaf.Cert)
	for _, tt := range []struct {
		name string
		in   []clientcert.Authorities
		want error
	}{
		{"good", []clientcert.Authorities{with(ca, true, list(ca), good)}, nil},
		{"revoked", []clientcert.Authorities{with(ca, true, list(ca), revoked)}, clientcert.ErrRevoked},
		{"revoked, softly", []clientcert.Authorities{with(ca, false, revoked)}, clientcert.ErrRevoked},
		{"the one between is revoked", []clientcert.Authorities{with(ca, true, list(ca, middle.Cert), good)}, clientcert.ErrRevoked},
		{"nobody knows", []clientcert.Authorities{with(ca, true)}, clientcert.ErrUnsure},
		{"nobody knows, softly", []clientcert.Authorities{with(ca, false)}, nil},
		{"both ways are good", []clientcert.Authorities{with(ca, true, list(ca), good), with(other, true, list(other), good)}, nil},
		{"one way is", []clientcert.Authorities{with(ca, true, list(ca, middle.Cert)), with(other, true, list(other), good)}, nil},
		{"one is revoked, of the other nobody knows", []clientcert.Authorities{with(ca, true, revoked), with(other, false)}, clientcert.ErrRevoked},
		{"nobody knows of either", []clientcert.Authorities{with(ca, true), with(other, true)}, clientcert.ErrUnsure},
		{"nobody knows of either, one softly", []clientcert.Authorities{with(ca, true), with(other, false)}, nil},
		{"of one nobody asks", []clientcert.Authorities{with(ca, true), {Certificates: chain(other)}}, nil},
		{"named twice, the stricter counts", []clientcert.Authorities{with(ca, true), with(ca, false)}, clientcert.ErrUnsure},
		{"named twice, nobody asks once", []clientcert.Authorities{with(ca, true), {Certificates: chain(ca)}}, clientcert.ErrUnsure},
		{"named twice, revoked once", []clientcert.Authorities{with(ca, true, list(ca), good), with(ca, false, revoked)}, clientcert.ErrRevoked},
	} {
		var tally revocation.Tally
		p := clientcert.New(nil, tt.in, &tally)
		until, err := p.Verify(shown, now)
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || !until.After(now)) {
			t.Errorf("%s: %v until %v, want %v", tt.name, err, until, tt.want)
		}
		counted := [3]uint64{tally.Revoked.Load(), tally.Unsure.Load(), tally.LetIn.Load()}
		switch {
		case errors.Is(tt.want, clientcert.ErrRevoked) && counted != [3]uint64{1, 0, 0},
			errors.Is(tt.want, clientcert.ErrUnsure) && counted != [3]uint64{0, 1, 0},
			tt.want == nil && counted != [3]uint64{} && counted != [3]uint64{0, 0, 1}:
			t.Errorf("%s: counted %v", tt.name, counted)
		}
	}
	// Who is allowed as they are is believed whatever an authority says.
	if _, err := clientcert.New(pin(leaf), []clientcert.Authorities{with(ca, true, revoked)}, nil).Verify(shown, now); err != nil {
		t.Errorf("allowed as it is: %v", err)
	}
	until, err := clientcert.New(nil, []clientcert.Authorities{with(ca, true, list(ca), good)}, nil).Verify(shown, now)
	if err != nil || !until.Equal(leaf.Cert.NotAfter) && until.After(good.NextUpdate) {
		t.Errorf("good until %v, %v; the lists count until %v", until, err, good.NextUpdate)
	}
}
