package admission

import (
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// shown refuses certificates between which gateways could not choose: for one server name with one kind of key.
func (j *judge) shown() {
	held := map[string]*entry{}
	for _, e := range j.entries {
		c, ok := e.msg.(*configv1.Certificate)
		if !ok {
			continue
		}
		for i, sni := range c.GetSnis() {
			for claim := range claims.Shown(c, sni) {
				if other := j.placeHolder(e, claim, held); other != "" {
					kind := claim[strings.LastIndexByte(claim, ' ')+1:]
					j.failWith(problem.Conflict, problem.Join(e.path, problem.Index("snis", i)),
						"%s is presented for %s with a key of the same kind, %s: gateways could not choose", other, sni, kind)
				}
			}
		}
	}
}

// defaults refuses default certificates that gateways could not show, for want of a key, or not choose between.
func (j *judge) defaults() {
	m, _ := j.set.get("settings", "settings")
	s, ok := m.msg.(*configv1.Settings)
	if !ok {
		return
	}
	kinds := map[string]string{}
	for i, reference := range s.GetTls().GetDefaultCertificate() {
		holder, v := j.meant(reference)
		c, _ := holder.msg.(*configv1.Certificate)
		ordered := c.GetAcme() != nil && v == nil
		if v == nil && !ordered || m.entry == nil && holder.entry == nil {
			continue
		}
		has := certs.KeyKinds(v)
		if ordered {
			has = certs.ShownKinds(c)
		}
		ref, at := catalog.Ref(certs.Kind, holder.name), problem.Index("tls.default_certificate", i)
		if key := v.GetPrivateKey(); !ordered && key.GetValue() == nil && !key.GetSet() {
			if m.entry != nil {
				j.fail(problem.Join(m.entry.path, at), "%s has no private key, so it cannot be presented", ref)
			} else {
				j.fail(problem.Join(holder.entry.path, "current.private_key"), "required: tls.default_certificate of the settings names it")
			}
		}
		j.alike(problem.Join(m.path(holder.path("")), at), ref, has, kinds)
	}
}

// alike refuses a default certificate whose kind of key another one has, or may come to have.
func (j *judge) alike(path, ref string, has []string, kinds map[string]string) {
	for _, kind := range has {
		if other, ok := kinds[kind]; ok {
			j.failWith(problem.Conflict, path, "%s has a key of the same kind, %s, as %s: gateways could not choose", ref, kind, other)
			break
		}
	}
	for _, kind := range has {
		kinds[kind] = ref
	}
}

// meant finds the version that gateways present for a reference, nil if there is none or it cannot be read.
func (j *judge) meant(reference string) (member, *configv1.CertificateVersion) {
	if m, ok := j.set.get(certs.Kind, reference); ok {
		c, _ := m.msg.(*configv1.Certificate)
		return m, c.GetCurrent()
	}
	var found member
	if ref, ok := j.set.view.Claimant(claims.Certificate(reference)); ok {
		found, _ = j.set.get(ref.Kind, ref.Name)
	}
	for _, e := range j.entries {
		if c, ok := e.msg.(*configv1.Certificate); ok && versionOf(c, reference) != nil {
			found = member{certs.Kind, e.name, e.msg, e}
		}
	}
	c, _ := found.msg.(*configv1.Certificate)
	return found, versionOf(c, reference)
}

func versionOf(c *configv1.Certificate, reference string) *configv1.CertificateVersion {
	for _, slot := range certs.Slots(c) {
		if certs.VersionID(slot.Version) == reference {
			return slot.Version
		}
	}
	return nil
}
