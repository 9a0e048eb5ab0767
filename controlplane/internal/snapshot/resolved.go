package snapshot

import (
	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/check/certs"
)

// Resolved is a resource with what its references mean and what was issued for it, the same one if that is nothing that can
// change. Versions of a certificate of which nothing was read are left out.
func (v *View) Resolved(m proto.Message) proto.Message {
	c, ok := m.(*configv1.Certificate)
	if !ok {
		return m
	}
	out, _ := certs.Resolve(certs.Public(c), func(name string) (*systemv1.ResolvedSecret, string) {
		r, ok := v.Get(certs.KindResolved, name)
		if !ok {
			return nil, ""
		}
		read, ok := r.Message.(*systemv1.ResolvedSecret)
		if !ok {
			return nil, "it cannot be read"
		}
		return read, ""
	})
	if c.GetAcme() == nil {
		return out
	}
	out, _ = certs.Ordered(out, func(name string) (*systemv1.IssuedCertificate, string) {
		r, ok := v.Get(certs.KindIssued, name)
		if !ok {
			return nil, ""
		}
		issued, ok := r.Message.(*systemv1.IssuedCertificate)
		if !ok {
			return nil, "it cannot be read"
		}
		return issued, ""
	})
	if out == nil {
		return proto.CloneOf(c)
	}
	return out
}
