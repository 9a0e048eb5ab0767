package compile

import (
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// changedReferences keeps which certificates refer to what, and takes those of which what they refer to has changed as if they
// had changed themselves.
func (b *build) changedReferences() {
	at := map[string]int{}
	for i, ch := range b.changes[kindCerts] {
		at[ch.uid()] = i
	}
	for _, name := range slices.Concat(b.changedRecords(kindResolved), b.changedRecords(kindIssued), b.changedFiles()) {
		eachUser(b.prev.References, name, func(uid string) {
			if i, ok := at[uid]; ok {
				b.changes[kindCerts][i].again = true
			} else if r := b.rt.Set.ByUID(kindCerts, uid); r != nil {
				at[uid] = len(b.changes[kindCerts])
				b.changes[kindCerts] = append(b.changes[kindCerts], change{before: r, after: r, again: true})
			}
		})
	}
	for _, ch := range b.changes[kindCerts] {
		if sameRecord(ch) {
			continue
		}
		for _, name := range resolvedNames(ch.before) {
			b.references.remove(name, ch.uid())
		}
		for _, name := range resolvedNames(ch.after) {
			b.references.add(name, ch.uid())
		}
	}
}

// changedRecords names the records of a kind, with what references mean or what was issued, that are not as they were.
func (b *build) changedRecords(kind string) []string {
	var names []string
	for _, ch := range b.changes[kind] {
		if sameRecord(ch) {
			continue
		}
		b.forget(kind, ch.uid())
		if ch.after != nil && ch.after.Unreadable != "" {
			b.fault(ch.after, ch.after.Unreadable)
		}
		before, after := ch.names()
		if names = append(names, recordName(kind, before)); after != before {
			names = append(names, recordName(kind, after))
		}
	}
	return names
}

// recordName tells what was issued for a certificate, which has its name, from what a reference means.
func recordName(kind, name string) string {
	if kind == kindIssued {
		return kind + " " + name
	}
	return name
}

func resolvedNames(r *state.Record) []string {
	if r == nil {
		return nil
	}
	m, reason := decoded[*configv1.Certificate](r)
	if reason != "" {
		return nil
	}
	var names []string
	if m.GetAcme() != nil {
		names = append(names, recordName(kindIssued, m.GetName()))
	}
	for _, slot := range certs.Slots(m) {
		if certs.Reference(slot.Version) != "" {
			names = append(names, certs.ResolvedName(m.GetName(), slot.Version))
		}
	}
	return names
}

// openCertificate opens a certificate with what its references mean and what was issued for it. What is told of the version in
// use closes it; another version of which nothing can be used is as if it were not there, which is told, too. The set is nil if
// it is closed, or if nothing was issued yet, which is no fault.
func (b *build) openCertificate(m *configv1.Certificate) (set *certs.Set, closing, other []problem.Violation) {
	m, unread := b.fromFiles(m)
	m, missing := certs.Resolve(m, b.resolved)
	for _, v := range append(unread, missing...) {
		if strings.HasPrefix(v.Path, "current.") {
			closing = append(closing, v)
		} else {
			other = append(other, v)
		}
	}
	m, reason := certs.Ordered(m, b.issued)
	if reason != "" {
		closing = append(closing, problem.Violation{Path: "acme", Reason: reason})
	}
	if len(closing) > 0 || m == nil {
		return nil, closing, other
	}
	set, closing = certs.Open(m)
	return set, closing, other
}

// issued is what was issued for a certificate.
func (b *build) issued(name string) (*systemv1.IssuedCertificate, string) {
	r := b.rt.Set.Get(kindIssued, name)
	if r == nil {
		return nil, ""
	}
	return decoded[*systemv1.IssuedCertificate](r)
}

// resolved is what a reference means, by the name of its record.
func (b *build) resolved(name string) (*systemv1.ResolvedSecret, string) {
	r := b.rt.Set.Get(kindResolved, name)
	if r == nil {
		return nil, ""
	}
	return decoded[*systemv1.ResolvedSecret](r)
}
