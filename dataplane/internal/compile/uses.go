package compile

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/hostsvc"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/secret"
)

// madeFromMore are the kinds that can be made from more than their own record: what has policies, and credentials.
func madeFromMore() []string {
	return []string{kindSettings, kindServices, kindRoutes, kindGroups, kindConsumers, kindCredentials}
}

func refToValue(record string) string { return refTo(kindResolved, record) }

// forgetUses forgets what was noted of what has changed or is gone: when it is made, it is noted anew.
func (b *build) forgetUses() {
	if b.prev.UsesOf.Len() == 0 {
		return
	}
	for _, kind := range madeFromMore() {
		for _, ch := range b.changes[kind] {
			b.made(kind, ch.uid(), nil)
		}
	}
}

// changedUses takes what is made from something that has changed as if it had changed itself.
func (b *build) changedUses(refs map[string]bool) {
	if b.prev.UsesOf.Len() == 0 {
		return
	}
	changed := map[string]bool{}
	for _, kind := range madeFromMore() {
		for _, ch := range b.changes[kind] {
			changed[refTo(kind, ch.uid())] = true
		}
	}
	for _, ch := range b.changes[kindResolved] {
		if before, after := ch.names(); !sameRecord(ch) {
			refs[refToValue(before)], refs[refToValue(after)] = true, true
		}
	}
	for ref := range refs {
		eachUser(b.prev.Uses, ref, func(user string) {
			kind, uid, _ := strings.Cut(user, " ")
			if r := b.rt.Set.ByUID(kind, uid); r != nil && !changed[user] {
				changed[user] = true
				b.changes[kind] = append(b.changes[kind], change{before: r, after: r, again: true})
			}
		})
	}
}

// made notes what something was made from besides its own record.
func (b *build) made(kind, uid string, refs []string) {
	if len(refs) == 0 && b.usesOf.Len() == 0 {
		return
	}
	user := refTo(kind, uid)
	before, ok := b.usesOf.Get(user)
	if !ok && len(refs) == 0 {
		return
	}
	slices.Sort(refs)
	refs = slices.Compact(refs)
	for _, ref := range before {
		if !slices.Contains(refs, ref) {
			b.uses.remove(ref, user)
		}
	}
	for _, ref := range refs {
		if !slices.Contains(before, ref) {
			b.uses.add(ref, user)
		}
	}
	if len(refs) == 0 {
		b.usesOf.Delete(user)
		return
	}
	b.usesOf.Put(user, refs)
}

// group is what policies ask while they are built.
type group struct{ *build }

// Authorities implements policy.Group.
func (g group) Authorities(name string) ([]*x509.Certificate, error) {
	g.noted = append(g.noted, refTo(kindAuthorities, name))
	got := once(g.authorities, name, g.believe)
	if got.err != nil {
		return nil, fmt.Errorf("CA certificate %s %w", name, got.err)
	}
	return got.list, nil
}

// Egress implements policy.Group.
func (g group) Egress() *hostsvc.EgressRules {
	g.noted = append(g.noted, settingsEgress)
	return g.egress
}

// Certificate implements policy.Group.
func (g group) Certificate(reference string) ([]*certs.Version, error) {
	return g.meantVersions(reference, (*certs.Set).Believed)
}

// Versions implements policy.Group.
func (g group) Versions(reference string) ([]*certs.Version, error) {
	return g.meantVersions(reference, (*certs.Set).Versions)
}

// meantVersions notes that a certificate was asked for, and picks those of its versions that are meant.
func (g group) meantVersions(reference string, pick func(*certs.Set, string) []*certs.Version) ([]*certs.Version, error) {
	g.noted = append(g.noted, refTo(kindCerts, reference))
	set, err := g.meantSet(reference)
	if err == nil {
		if versions := pick(set, reference); len(versions) > 0 {
			return versions, nil
		}
		err = errors.New("has no such version")
	}
	return nil, fmt.Errorf("certificate %s %w", reference, err)
}

func (b *build) meantSet(reference string) (*certs.Set, error) {
	r := b.meant(reference)
	if r == nil {
		return nil, errors.New("does not exist")
	}
	m, reason := decoded[*configv1.Certificate](r)
	if reason != "" {
		return nil, errors.New(reason)
	}
	set, closing, _ := b.openCertificate(m)
	switch {
	case len(closing) > 0:
		return nil, errors.New(told(closing))
	case set == nil:
		return nil, errors.New("has not been issued yet")
	}
	return set, nil
}

// clear puts what references mean in the place of secrets in a configuration, which is not changed itself. It answers what
// that was made from. Few configurations have any, and no more than looking for one is spent on others.
func (b *build) clear(packed *anypb.Any, cfg proto.Message) (_ proto.Message, refs []string, reason string) {
	if !secret.MayRefer(packed.GetValue()) {
		return cfg, nil, ""
	}
	out := proto.Clone(cfg)
	err := secret.Walk(out, func(f secret.Field) {
		ref := f.Get().GetRef()
		if ref == "" {
			return
		}
		name := certs.ValueName(ref)
		refs = append(refs, refToValue(name))
		value, why := b.value(name, ref)
		if why != "" {
			reason = f.Path + " refers to what " + why
			return
		}
		f.Set(&configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: value}})
	})
	if err != nil {
		reason = "its config does not parse"
	}
	return out, refs, reason
}

// value is what a reference means, or why nothing.
func (b *build) value(name, reference string) (text, reason string) {
	r := b.rt.Set.Get(kindResolved, name)
	if r == nil {
		return "", "has not been read yet"
	}
	m, reason := decoded[*systemv1.ResolvedSecret](r)
	switch {
	case reason != "":
		return "", "cannot be used: " + reason
	case m.GetReference() != reference:
		return "", "has not been read yet"
	case m.GetValue().GetPlaintext() == "":
		return "", "could not be read for too long"
	}
	return m.GetValue().GetPlaintext(), ""
}
