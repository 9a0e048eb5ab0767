package jwtauth

import (
	"errors"
	"fmt"
	"slices"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/jwk"
)

// issuer is whose tokens are accepted, under which rules.
type issuer struct {
	rules token.Rules
	keys  []*jwk.Key      // nil: they are fetched
	set   *hostsvc.KeySet // nil: they are not
	// authorities vouch for where they are fetched.
	authorities string
}

func (j *jwtAuth) addIssuers(cfg *policyv1.JwtAuth, rules token.Rules, group policy.Group) error {
	for _, m := range cfg.GetIssuers() {
		i := &issuer{rules: rules}
		i.rules.Issuer = m.GetIssuer()
		if len(m.GetAudiences()) > 0 {
			i.rules.Audiences = m.GetAudiences()
		}
		if m.GetIssuer() == "" || j.issuers[m.GetIssuer()] != nil {
			return errors.New("issuers must have names of their own in issuer")
		}
		j.issuers[m.GetIssuer()] = i
		var err error
		if i.keys, err = keysOf(m, group); err != nil {
			return fmt.Errorf("issuer %s: %w", m.GetIssuer(), err)
		}
		if m.GetJwksUri() != "" || m.GetDiscovery() {
			source, err := sourceOf(m, group)
			if err != nil {
				return fmt.Errorf("issuer %s: %w", m.GetIssuer(), err)
			}
			i.set, i.authorities, j.waits = j.host.KeySets.Open(source), source.Authorities, true
		}
		if (i.set == nil) == (len(i.keys) == 0) {
			return fmt.Errorf("issuer %s needs keys, in one way", m.GetIssuer())
		}
	}
	return nil
}

// keysOf returns the keys that are not fetched.
func keysOf(m *policyv1.JwtIssuer, group policy.Group) ([]*jwk.Key, error) {
	var all []*jwk.Key
	for _, text := range m.GetPublicKeys() {
		keys, err := jwk.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("public key %w", err)
		}
		all = append(all, keys...)
	}
	if m.GetCertificate() == "" {
		return all, nil
	}
	versions, err := group.Certificate(m.GetCertificate())
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		k, err := jwk.FromPublic(v.Chain[0].PublicKey, "", "")
		if err != nil {
			return nil, fmt.Errorf("the key of certificate %s %w", m.GetCertificate(), err)
		}
		all = append(all, k)
	}
	return all, nil
}

func sourceOf(m *policyv1.JwtIssuer, group policy.Group) (hostsvc.KeySource, error) {
	s := hostsvc.KeysAt(m.GetJwksUri())
	if m.GetDiscovery() {
		s.Issuer = m.GetIssuer()
	}
	if m.Refresh != nil {
		s.Refresh = m.GetRefresh().AsDuration()
	}
	if m.StaleBound != nil {
		s.Stale = m.GetStaleBound().AsDuration()
	}
	if m.Timeout != nil {
		s.Timeout = m.GetTimeout().AsDuration()
	}
	for _, name := range slices.Sorted(slices.Values(m.GetCa())) {
		list, err := group.Authorities(name)
		if err != nil {
			return s, fmt.Errorf("ca: CA certificate %s %w", name, err)
		}
		for _, c := range list {
			s.Authorities += string(c.Raw)
		}
	}
	if len(m.GetCa()) > 0 && s.Authorities == "" {
		return s, errors.New("ca has no certificate")
	}
	return s, nil
}
