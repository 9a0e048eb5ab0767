package compile

import (
	"maps"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sni"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	known "keyward.dev/shared/check/revocation"
)

// forgetStaples forgets what was wrong with answers of responders: all of it is found again when certificates are put together.
func (b *build) forgetStaples() {
	maps.DeleteFunc(b.rt.Faults, func(k runtime.Key, _ []runtime.Fault) bool { return k.Kind == kindStaples })
	for r := range b.rt.Set.All(kindStaples) {
		if r.Unreadable != "" {
			b.fault(r, r.Unreadable)
		}
	}
}

// stapled is a certificate with the answers of its responders.
func (b *build) stapled(c *sni.Certificate) *sni.Certificate {
	return c.Stapled(func(v *certs.Version) sni.Staple {
		wanted, needed := known.Stapling(b.rt.Settings.TLS.Stapling, v.Leaf())
		s := sni.Staple{Needed: needed}
		if !wanted {
			return s
		}
		if r := b.rt.Set.Get(kindStaples, v.ID); r != nil {
			m, reason := decoded[*systemv1.OcspStaple](r)
			if reason == "" && m.GetCertificate() == v.ID && m.GetUntil() != nil {
				s.Answer, s.Until = m.GetAnswer(), m.GetUntil().AsTime()
			}
		}
		if needed && len(s.Answer) == 0 && v != c.Set.Previous {
			b.unstapled(c, v)
		}
		return s
	})
}

// unstapled reports that a version is not shown.
func (b *build) unstapled(c *sni.Certificate, v *certs.Version) {
	reason := "the certificate is shown only with an answer of its responder, and none was fetched that says that it is good"
	if _, _, ok := known.ResponderOf(v.Chain); !ok {
		reason = "the certificate is shown only with an answer of its responder, and it names none, or its issuer is not there"
	}
	k := runtime.Key{Kind: kindStaples, UID: v.ID}
	b.rt.Faults[k] = []runtime.Fault{{Kind: kindStaples, UID: v.ID, Name: c.Set.Name, Reason: reason}}
}
