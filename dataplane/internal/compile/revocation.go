package compile

import (
	"crypto/x509"
	"fmt"

	"keyward.dev/dataplane/internal/state"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	known "keyward.dev/shared/check/revocation"
)

// againAuthorities are the CA certificates that changed, and those of which something did that they are opened with: a fetched
// list, or whom responders may be asked at.
func (b *build) againAuthorities() []change {
	changes := b.changes[kindAuthorities]
	seen := map[string]bool{}
	for _, ch := range changes {
		seen[ch.uid()] = true
	}
	again := func(r *state.Record) {
		if r != nil && !seen[r.UID] {
			seen[r.UID] = true
			changes = append(changes, change{before: r, after: r})
		}
	}
	for _, ch := range b.changes[kindLists] {
		if sameRecord(ch) {
			continue
		}
		b.forget(kindLists, ch.uid())
		for _, r := range []*state.Record{ch.before, ch.after} {
			if r == nil {
				continue
			}
			if r.Unreadable != "" && r == ch.after {
				b.fault(r, r.Unreadable)
			}
			if m, reason := decoded[*systemv1.RevocationList](r); reason == "" {
				again(b.rt.Set.Get(kindAuthorities, m.GetAuthority()))
			}
		}
	}
	if before := b.prev.Settings; before != nil && before.EgressKey != b.rt.Settings.EgressKey {
		for r := range b.rt.Set.All(kindAuthorities) {
			again(r)
		}
	}
	return changes
}

// fetched are the lists that the control plane has fetched for a CA certificate. What is missing is a fault only where it keeps
// clients out.
func (b *build) fetched(r *state.Record, rules *known.Rules, authorities []*x509.Certificate) (lists []*known.List) {
	for _, url := range rules.URLs {
		record := b.rt.Set.Get(kindLists, known.RecordName(r.Name, url))
		if record == nil {
			if rules.Strict {
				b.fault(r, fmt.Sprintf("revocation.crl_urls: the list at %s has not been fetched yet", url))
			}
			continue
		}
		m, reason := decoded[*systemv1.RevocationList](record)
		if reason == "" && (m.GetAuthority() != r.Name || m.GetUrl() != url) {
			reason = "it is another one"
		}
		if reason == "" {
			l, err := known.Parse(m.GetList(), authorities)
			if err == nil {
				lists = append(lists, l)
				continue
			}
			reason = err.Error()
		}
		b.fault(r, fmt.Sprintf("revocation.crl_urls: the list at %s cannot be used: %s", url, reason))
	}
	return lists
}
