package jwtauth_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies/jwtauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/testkit/certtest"
)

// authorities is a group with CA certificates.
type authorities struct {
	policy.Group
	held map[string][]*x509.Certificate
}

func (a authorities) Authorities(name string) ([]*x509.Certificate, error) {
	if list := a.held[name]; list != nil {
		return list, nil
	}
	return nil, errors.New("is not there")
}

// What was fetched from a host that one authority vouched for counts no more when another one does.
func TestKeysAreFetchedFromWhomAnAuthorityVouchesFor(t *testing.T) {
	t.Parallel()
	one, two := certtest.CA(t, "one"), certtest.CA(t, "two")
	honest, evil := tokentest.NewKey(t, jwk.EdDSA, "a"), tokentest.NewKey(t, jwk.EdDSA, "b")
	w := &world{host: hostsvc.New(hostsvc.Config{}), now: time.Now(), directory: directory.New()}
	sets := hostsvc.NewKeySets(func(_ context.Context, s hostsvc.KeySource) (hostsvc.Fetched, error) {
		if s.Authorities == string(one.Cert.Raw) {
			return hostsvc.Fetched{Body: tokentest.Set(evil)}, nil
		}
		return hostsvc.Fetched{Body: tokentest.Set(honest)}, nil
	}, slog.New(slog.DiscardHandler))
	w.host.KeySets = sets
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sets.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	cfg := fetched()
	cfg.Issuers[0].Ca = []string{"corp"}
	w.group = authorities{held: map[string][]*x509.Certificate{"corp": {one.Cert}}}
	raw := evil.Token(nil, w.claims(nil))
	if _, status, why := w.ask(w.build(t, cfg), raw); status != 200 {
		t.Fatalf("%d %s", status, why)
	}
	w.group = authorities{held: map[string][]*x509.Certificate{"corp": {two.Cert}}}
	p := w.build(t, cfg)
	if _, status, why := w.ask(p, raw); status != 401 {
		t.Errorf("%d %s for a token of keys that the former authority vouched for", status, why)
	}
	if _, status, why := w.ask(p, honest.Token(nil, w.claims(nil))); status != 200 {
		t.Errorf("%d %s", status, why)
	}
	cfg.Issuers[0].Ca = []string{"none"}
	if _, err := jwtauth.Build(cfg, policy.Deps{Host: w.host, Group: w.group}); err == nil {
		t.Error("an authority that is not there vouches for somebody")
	}
}
