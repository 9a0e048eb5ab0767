package admission

import (
	"iter"
	"slices"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// identities refuses that gateways are to prove themselves with certificates of which they have no private key.
func (j *judge) identities() {
	for _, e := range j.entries {
		for at, reference := range shownUpstream(e.msg) {
			if c := j.set.certificate(reference); c != nil && !hasKey(c, reference) {
				j.fail(problem.Join(e.path, at), "has no private key, without which it proves nothing to upstreams")
			}
		}
		if c, ok := e.msg.(*configv1.Certificate); ok {
			j.keyless(e, c)
		}
	}
}

// keyless refuses to take the private key from a certificate that what the request leaves alone proves itself with.
func (j *judge) keyless(e *entry, c *configv1.Certificate) {
	var users []string
	for _, name := range append(certs.IDs(c), c.GetName()) {
		if hasKey(c, name) {
			continue
		}
		for m := range j.set.untouched(certs.Kind, name) {
			for _, reference := range shownUpstream(m.msg) {
				if reference == name {
					users = append(users, catalog.Ref(m.kind, m.name))
				}
			}
		}
	}
	if len(users) > 0 {
		slices.Sort(users)
		j.fail(e.path, "needs a private key: it is shown to upstreams by %s", enumerate(slices.Compact(users)))
	}
}

// shownUpstream yields the references to certificates with which gateways prove themselves to upstreams, with their places.
func shownUpstream(m proto.Message) iter.Seq2[string, string] {
	return func(yield func(at, reference string) bool) {
		if s, ok := m.(*configv1.Service); ok && s.GetTls().GetClientCertificate() != "" && !yield("tls.client_certificate", s.GetTls().GetClientCertificate()) {
			return
		}
		o, ok := m.(interface {
			GetUpstreamCertificates() []*configv1.UpstreamCertificate
		})
		if !ok {
			return
		}
		for i, c := range o.GetUpstreamCertificates() {
			if c.GetCertificate() != "" && !yield(problem.Index("upstream_certificates", i)+".certificate", c.GetCertificate()) {
				return
			}
		}
	}
}

// certificate returns what a reference means, nil if that is not there or cannot be read.
func (s *set) certificate(reference string) *configv1.Certificate {
	if m, ok := s.get(certs.Kind, reference); ok {
		c, _ := m.msg.(*configv1.Certificate)
		return c
	}
	for _, o := range s.over {
		if o.entry == nil {
			continue
		}
		if c, ok := o.entry.msg.(*configv1.Certificate); ok && slices.Contains(certs.IDs(c), reference) {
			return c
		}
	}
	ref, ok := s.view.Claimant(claims.Certificate(reference))
	if !ok {
		return nil
	}
	m, _ := s.get(ref.Kind, ref.Name)
	c, _ := m.msg.(*configv1.Certificate)
	return c
}

// hasKey reports whether every version that a reference means and that is shown at some time has its private key.
func hasKey(c *configv1.Certificate, reference string) bool {
	for _, slot := range certs.Slots(c) {
		meant := certs.VersionID(slot.Version) == reference || reference == c.GetName() && slot.Version != c.GetPrevious()
		if meant && slot.Version.GetPrivateKey().GetValue() == nil {
			return false
		}
	}
	return true
}
