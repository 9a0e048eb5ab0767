package compile

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/certmap"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// What the TLS of services is made from: a certificate by its name or the id of a version, authorities by their name, and
// what the settings say of upstream certificates.
const settingsIdentities = kindSettings + " upstream_certificates"

// What policies are made from that make calls of their own: where these may go.
const settingsEgress = kindSettings + " upstream_networks"

func refTo(kind, name string) string { return kind + " " + name }

// identified is an identity, or why there is none.
type identified struct {
	identity *runtime.Identity
	err      error
}

// believed are authorities, or why there are none.
type believed struct {
	list []*x509.Certificate
	err  error
}

// changedTrust returns what has changed of what the TLS of services is made from, and keeps the ids of certificates.
func (b *build) changedTrust() map[string]bool {
	refs := map[string]bool{}
	for _, ch := range b.changes[kindCerts] {
		for _, id := range idsOf(ch.before) {
			refs[refTo(kindCerts, id)] = true
			b.versions.remove(id, ch.uid())
		}
		for _, id := range idsOf(ch.after) {
			refs[refTo(kindCerts, id)] = true
			b.versions.add(id, ch.uid())
		}
	}
	for _, kind := range []string{kindCerts, kindAuthorities} {
		for _, ch := range b.changes[kind] {
			before, after := ch.names()
			refs[refTo(kind, before)], refs[refTo(kind, after)] = true, true
		}
	}
	b.rt.Versions = b.versions.edit.Map()
	return refs
}

// changedPlaces adds to refs what the settings, which are new, say otherwise than before, and takes up what is made from it.
func (b *build) changedPlaces(refs map[string]bool) {
	before := b.prev.Settings
	if before == nil {
		return
	}
	if before.IdentitiesKey != b.rt.Settings.IdentitiesKey {
		refs[settingsIdentities] = true
	}
	if before.EgressKey != b.rt.Settings.EgressKey {
		b.changedUses(map[string]bool{settingsEgress: true})
	}
}

func idsOf(r *state.Record) []string {
	if r == nil {
		return nil
	}
	m, reason := decoded[*configv1.Certificate](r)
	if reason != "" {
		return nil
	}
	ids := certs.IDs(m)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// dependentServices returns, as if they had changed, the services that use what has changed, but for those that did.
func (b *build) dependentServices(refs map[string]bool) []change {
	seen := map[string]bool{}
	for _, ch := range b.changes[kindServices] {
		seen[ch.uid()] = true
	}
	var out []change
	for ref := range refs {
		eachUser(b.prev.Dependents, ref, func(uid string) {
			if r := b.rt.Set.ByUID(kindServices, uid); r != nil && !seen[uid] {
				seen[uid] = true
				out = append(out, change{before: r, after: r})
			}
		})
	}
	return out
}

// fillTrust fills in whom the service believes by name, and what its targets are shown. What is missing or cannot be used
// closes it; it is noted all the same, so that the service opens when that is there.
func (b *build) fillTrust(s *runtime.Service, m *configv1.Service) error {
	if s.TLS == nil {
		if len(m.GetUpstreamCertificates()) > 0 {
			return errors.New("upstream_certificates are given, but the protocol is without TLS")
		}
		return nil
	}
	var errs []error
	for _, name := range check.AuthorityNames(m.GetTls().GetCa()) {
		ref := refTo(kindAuthorities, name)
		s.Refs = append(s.Refs, ref)
		got := once(b.authorities, name, b.believe)
		if got.err != nil {
			errs = append(errs, fmt.Errorf("tls.ca: CA certificate %s %w", name, got.err))
		}
		s.TLS.Authorities = append(s.TLS.Authorities, got.list...)
	}
	return joined(append(errs, b.fillIdentities(s, m))...)
}

// joined tells several errors in one line; nil ones are left out.
func joined(errs ...error) error {
	var texts []string
	for _, err := range errs {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}

// fillIdentities says what each target is shown.
func (b *build) fillIdentities(s *runtime.Service, m *configv1.Service) error {
	own, wrong := certmap.New(m.GetUpstreamCertificates())
	if len(wrong) > 0 {
		return errors.New("upstream_certificates: " + firstOf(wrong))
	}
	always := m.GetTls().GetClientCertificate()
	if always == "" {
		s.Refs = append(s.Refs, settingsIdentities)
	}
	var errs []error
	for i := range s.Targets {
		t := &s.Targets[i]
		reference := always
		if reference == "" {
			var err error
			if reference, err = certmap.Pick(t.Address, own, b.rt.Settings.Identities); err != nil {
				errs = append(errs, fmt.Errorf("target %s %w", t.Address, err))
			}
		}
		if reference == "" {
			continue
		}
		got := once(b.identities, reference, b.identity)
		t.Identity = got.identity
		if ref := refTo(kindCerts, reference); !slices.Contains(s.Refs, ref) {
			s.Refs = append(s.Refs, ref)
			if got.err != nil {
				errs = append(errs, fmt.Errorf("client certificate %s %w", reference, got.err))
			}
		}
	}
	return joined(errs...)
}

// once makes a value of a key the first time that it is asked for.
func once[V any](made map[string]V, key string, make func(string) V) V {
	v, ok := made[key]
	if !ok {
		v = make(key)
		made[key] = v
	}
	return v
}

func (b *build) believe(name string) believed {
	r := b.rt.Set.Get(kindAuthorities, name)
	if r == nil {
		return believed{err: errors.New("does not exist")}
	}
	m, reason := decoded[*configv1.CaCertificate](r)
	if reason != "" {
		return believed{err: errors.New(reason)}
	}
	list, violations := certs.OpenCA(m)
	if len(violations) > 0 {
		return believed{err: errors.New(told(violations))}
	}
	return believed{list: list}
}

// identity opens what a reference means.
func (b *build) identity(reference string) identified {
	r := b.meant(reference)
	if r == nil {
		return identified{err: errors.New("does not exist")}
	}
	m, reason := decoded[*configv1.Certificate](r)
	if reason != "" {
		return identified{err: errors.New(reason)}
	}
	set, closing, _ := b.openCertificate(m)
	if len(closing) > 0 {
		return identified{err: errors.New(told(closing))}
	}
	if set == nil {
		return identified{err: errors.New("has not been issued yet")}
	}
	versions := set.Believed(reference)
	if len(versions) == 0 || versions[0].Key == nil {
		return identified{err: errors.New("has no private key")}
	}
	return identified{identity: &runtime.Identity{Reference: reference, Key: identityKey(reference == set.Name, versions), Set: set}}
}

// meant finds the record of a certificate by its name or the id of a version. If several have the same version, it is the
// same one whatever came first.
func (b *build) meant(reference string) *state.Record {
	if r := b.rt.Set.Get(kindCerts, reference); r != nil || !certs.IsID(reference) {
		return r
	}
	var uids []string
	eachUser(b.rt.Versions, reference, func(uid string) { uids = append(uids, uid) })
	if len(uids) == 0 {
		return nil
	}
	return b.rt.Set.ByUID(kindCerts, slices.Min(uids))
}

// identityKey is equal for identities that show the same, now and later.
func identityKey(byName bool, versions []*certs.Version) string {
	sum := sha256.New()
	fmt.Fprint(sum, byName)
	for _, v := range versions {
		fmt.Fprintf(sum, " version %t", v.Key != nil)
		for _, c := range v.Chain {
			fmt.Fprintf(sum, " %x", sha256.Sum256(c.Raw))
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// identitiesKey is equal for lists that say the same.
func identitiesKey(list []*configv1.UpstreamCertificate) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = fmt.Sprintf("%q %q", e.GetDomain(), e.GetCertificate())
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// firstOf tells the first of what is wrong with a list.
func firstOf(wrong map[int]error) string {
	first := -1
	for i := range wrong {
		if first < 0 || i < first {
			first = i
		}
	}
	return fmt.Sprintf("the one at place %d %v", first+1, wrong[first])
}

func told(violations []problem.Violation) string {
	parts := make([]string, len(violations))
	for i, v := range violations {
		parts[i] = v.Path + " " + v.Reason
	}
	return "cannot be used: " + strings.Join(parts, "; ")
}
