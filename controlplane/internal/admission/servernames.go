package admission

import (
	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// serverNames refuses that it is not clear how TLS is spoken under a server name: two certificates that are for it say different
// things, or one says what cannot be together with the settings.
func (j *judge) serverNames() {
	m, _ := j.set.get("settings", "settings")
	s, _ := m.msg.(*configv1.Settings)
	sharing := map[string][]*entry{}
	for _, e := range j.entries {
		c, ok := e.msg.(*configv1.Certificate)
		if !ok {
			continue
		}
		j.violations = append(j.violations, problem.Under(e.path, check.Contradictions(s.GetTls(), c.GetTls()))...)
		j.torn(e, c, sharing)
		for _, sni := range c.GetSnis() {
			sharing[sni] = append(sharing[sni], e)
		}
	}
	if m.entry == nil {
		return
	}
	for r := range j.set.view.All(certs.Kind) {
		c, ok := r.Message.(*configv1.Certificate)
		if !ok || j.set.over[id{certs.Kind, r.Name}] != nil {
			continue
		}
		for _, v := range check.Contradictions(s.GetTls(), c.GetTls()) {
			j.fail(problem.Join(m.entry.path, "tls"), "%s cannot be with it: its %s %s", catalog.Ref(certs.Kind, r.Name), v.Path, v.Reason)
		}
	}
}

// said is what a certificate says of TLS; to say nothing in a message is to say nothing.
func said(c *configv1.Certificate) *configv1.ServerNameTls {
	if proto.Size(c.GetTls()) == 0 {
		return nil
	}
	return c.GetTls()
}

// torn tells the first certificate that says something else of a name than this one: of those in the request that came before it,
// and of those that the request leaves alone.
func (j *judge) torn(e *entry, c *configv1.Certificate, sharing map[string][]*entry) {
	differs := func(name, sni string, other proto.Message) bool {
		o, ok := other.(*configv1.Certificate)
		if !ok || name == e.name || proto.Equal(said(o), said(c)) {
			return false
		}
		j.failWith(problem.Conflict, problem.Join(e.path, "tls"),
			"%s is for %s as well and says something else: certificates that share a name say the same, and are changed in one request",
			catalog.Ref(certs.Kind, name), sni)
		return true
	}
	for _, sni := range c.GetSnis() {
		for _, other := range sharing[sni] {
			if differs(other.name, sni, other.msg) {
				return
			}
		}
		for claim := range claims.ShownBy(sni) {
			ref, ok := j.set.view.Claimant(claim)
			if !ok || j.set.over[id{ref.Kind, ref.Name}] != nil {
				continue
			}
			if m, _ := j.set.get(ref.Kind, ref.Name); differs(ref.Name, sni, m.msg) {
				return
			}
		}
	}
}
