package admission

import (
	"crypto/fips140"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/certinput"
	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/problem"
)

// Prepared are changes as admission expects them.
type Prepared struct {
	Changes []Change
	// Faults are violations found on the way, for Request.Faults.
	Faults []problem.Violation
	// Warnings are not wrong but worth knowing.
	Warnings []problem.Violation
}

// MaxRounds bounds the key derivation that one request may cause: some seconds of a core.
const MaxRounds = 5_000_000

// Prepare does what admission must not: what is slow, such as opening encrypted private keys, and what depends on the time. It
// is for before any lock, and needs no view. The messages that are given are not changed.
func Prepare(changes []Change, now time.Time) Prepared {
	p := Prepared{Changes: slices.Clone(changes)}
	work := certinput.NewWork(MaxRounds)
	for i, c := range p.Changes {
		if c.Op == OpDelete || c.Restored {
			continue
		}
		if fips140.Enabled() {
			p.Faults = append(p.Faults, problem.Under(c.Path, NotApproved(c.Message))...)
		}
		switch m := c.Message.(type) {
		case *configv1.Certificate:
			m = proto.CloneOf(m)
			for _, slot := range certs.Slots(m) {
				if nothing(slot) {
					continue
				}
				at := problem.Join(c.Path, slot.Name)
				p.Faults = append(p.Faults, problem.Under(at, readVersion(slot.Version, work))...)
			}
			p.Changes[i].Message = m
			p.Warnings = append(p.Warnings, problem.Under(c.Path, warnings(m, now))...)
		case *configv1.CaCertificate:
			text, faults := certinput.Authorities(m.GetCertificates())
			m = proto.CloneOf(m)
			m.Certificates = text
			p.Faults = append(p.Faults, problem.Under(c.Path, faults)...)
			p.Changes[i].Message = m
			p.Warnings = append(p.Warnings, problem.Under(c.Path, expired(m, now))...)
		}
	}
	return p
}

// readVersion brings a version into stored form. What a reference means is read later, by who may.
func readVersion(v *configv1.CertificateVersion, work *certinput.Work) []problem.Violation {
	if v.GetPassphrase().GetRef() != "" {
		v.Passphrase = nil
		return []problem.Violation{{Path: "passphrase", Reason: "cannot be a reference: it is used once and never kept"}}
	}
	named, vs := certs.Named(v)
	if len(vs) > 0 {
		return vs
	}
	key := v.GetPrivateKey()
	if key.GetRef() == "" {
		return certinput.Version(v, work)
	}
	if v.GetPassphrase() != nil {
		v.Passphrase = nil
		return []problem.Violation{{Path: "passphrase", Reason: "opens nothing: a private key that is a reference must not be encrypted where it is kept"}}
	}
	if _, file := certs.ChainOf(v); v.GetChain() == "" || named && file {
		return nil
	}
	v.PrivateKey = nil
	vs = certinput.Version(v, work)
	if v.GetPrivateKey() != nil && len(vs) == 0 {
		vs = []problem.Violation{{Path: "chain", Reason: "holds a private key, and private_key is a reference; give one of them"}}
	}
	v.PrivateKey = key
	return vs
}

// expired tells authorities that are over, and lists of theirs that are.
func expired(m *configv1.CaCertificate, now time.Time) []problem.Violation {
	all, vs := certs.OpenCA(m)
	if len(vs) > 0 {
		return nil // it is refused anyway
	}
	var out []problem.Violation
	for _, ca := range all {
		if now.After(ca.NotAfter) {
			out = append(out, problem.Violation{Path: "certificates", Reason: certs.Title(ca) + " has expired on " + ca.NotAfter.UTC().Format(time.RFC3339)})
		}
	}
	if rules, vs := revocation.Open(m, all); len(vs) == 0 && rules != nil {
		for _, l := range rules.Lists {
			if !l.FreshAt(now) {
				out = append(out, problem.Violation{
					Path:   "revocation.crl",
					Reason: "the list of " + certs.Title(l.Issuer) + " is out of date since " + l.NextUpdate.UTC().Format(time.RFC3339),
				})
			}
		}
	}
	return out
}

// warnings tell what of a certificate is odd and yet can be meant.
func warnings(m *configv1.Certificate, now time.Time) []problem.Violation {
	set, vs := certs.Open(m)
	if len(vs) > 0 {
		return nil // it is refused anyway
	}
	var out []problem.Violation
	warn := func(path, reason string) { out = append(out, problem.Violation{Path: path, Reason: reason}) }
	for name, v := range map[string]*certs.Version{"current": set.Current, "next": set.Next} {
		if v == nil {
			continue
		}
		if now.After(v.Leaf().NotAfter) {
			warn(name, "has expired on "+v.Leaf().NotAfter.UTC().Format(time.RFC3339))
		}
		if name == "current" && now.Before(v.Leaf().NotBefore) {
			warn(name, "is not valid before "+v.Leaf().NotBefore.UTC().Format(time.RFC3339))
		}
		if v.Leaf().IsCA {
			warn(name, "is the certificate of an authority; those that are to be believed are ca-certificates")
		}
	}
	return problem.Sort(out)
}

// certificateInfo lets what the server says of versions pass if it is what it answered of a stored one, and removes it.
func (j *judge) certificateInfo(e *entry) {
	c, ok := e.msg.(*configv1.Certificate)
	if !ok {
		return
	}
	var answered []*configv1.CertificateInfo
	if stored := storedCertificate(e); stored != nil {
		for _, slot := range certs.Slots(stored) {
			answered = append(answered, certs.VersionInfo(slot.Version))
		}
	}
	if c.GetAcme() != nil {
		c.Issued = nil // it changes by itself, also between reading a document and writing it back
	}
	for _, slot := range certs.Slots(c) {
		info := slot.Version.GetInfo()
		slot.Version.Info = nil
		if certs.Reference(slot.Version) != "" {
			continue // it changes by itself, also between reading a document and writing it back
		}
		if info != nil && !slices.ContainsFunc(answered, func(a *configv1.CertificateInfo) bool { return proto.Equal(a, info) }) {
			j.fail(problem.Join(e.path, slot.Name+".info"), "is set by the server; leave it out, or write what the server answered")
		}
	}
}

// storedCertificate is what is stored where an entry is put, nil if nothing is or it cannot be read.
func storedCertificate(e *entry) *configv1.Certificate {
	if e.stored == nil {
		return nil
	}
	c, _ := e.stored.Message.(*configv1.Certificate)
	return c
}

// nothing reports whether a previous version is written as {}, which removes the one that is stored.
func nothing(slot certs.Slot) bool { return slot.Name == "previous" && proto.Size(slot.Version) == 0 }

// certificate relates the versions of a certificate to those that are stored: another current one makes the one before it the
// previous one, and keys that are left out are kept with the certificates they belong to.
func (j *judge) certificate(e *entry) {
	c, ok := e.msg.(*configv1.Certificate)
	stored := storedCertificate(e)
	if !ok || e.change.Restored {
		return
	}
	removed := c.GetPrevious() != nil && proto.Size(c.GetPrevious()) == 0
	if removed {
		c.Previous = nil
	}
	if stored == nil {
		return
	}
	rotated := c.GetCurrent() != nil && certs.VersionID(c.GetCurrent()) != certs.VersionID(stored.GetCurrent())
	same := certs.VersionID(c.GetPrevious()) == certs.VersionID(stored.GetPrevious())
	if c.GetAcme() != nil { // until something is issued, gateways go on with what was in use
		rotated = stored.GetCurrent() != nil
	}
	switch {
	case removed:
	case rotated && certs.VersionID(stored.GetCurrent()) == "": // it was read from elsewhere, and nobody can refer to it
	case rotated && (c.GetPrevious() == nil || same):
		c.Previous = proto.CloneOf(stored.GetCurrent())
	case c.GetPrevious() == nil:
		c.Previous = proto.CloneOf(stored.GetPrevious())
	}
	for _, slot := range certs.Slots(c) {
		if !slices.Contains(e.change.Clears, slot.Name+".private_key") {
			keepKey(slot.Version, stored)
		}
	}
}

// keepKey gives a version without a key the stored one that belongs to its certificate, if there is one.
func keepKey(v *configv1.CertificateVersion, stored *configv1.Certificate) {
	if v.GetPrivateKey().GetValue() != nil {
		return
	}
	held := slices.DeleteFunc(certs.Slots(stored), func(s certs.Slot) bool { return s.Version.GetPrivateKey().GetValue() == nil })
	for _, slot := range held {
		if slot.Version.GetChain() == v.GetChain() {
			v.PrivateKey = proto.CloneOf(slot.Version.GetPrivateKey())
			return
		}
	}
	given, _ := certs.Open(&configv1.Certificate{Current: v})
	for _, slot := range held {
		old, _ := certs.Open(&configv1.Certificate{Current: slot.Version})
		if given.Current != nil && old.Current != nil && certs.SameKey(given.Current.Leaf().PublicKey, old.Current.Leaf().PublicKey) {
			v.PrivateKey = proto.CloneOf(slot.Version.GetPrivateKey())
			return
		}
	}
}

// certificateIDs refuses a certificate that the group has under another name: its id would not say which.
func (j *judge) certificateIDs() {
	held := map[string]*entry{}
	for _, e := range j.entries {
		c, ok := e.msg.(*configv1.Certificate)
		if !ok {
			continue
		}
		for claim := range claims.Identity(c) {
			other := ""
			if h := held[claim]; h != nil && h != e {
				other = h.name
			} else if ref, ok := j.set.view.Claimant(claim); ok && j.set.over[id{ref.Kind, ref.Name}] == nil {
				other = ref.Name
			}
			if other != "" {
				j.failWith(problem.Conflict, e.path, "the group has the certificate already, as %s", catalog.Ref(certs.Kind, other))
				break
			}
			held[claim] = e
		}
	}
}

// droppedVersions refuses to drop a version of a certificate whose id is used.
func (j *judge) droppedVersions(e *entry) {
	if e.kind.Name != certs.Kind || e.stored == nil {
		return
	}
	for _, version := range names(e.stored) {
		if users := j.left(certs.Kind, version); len(users) > 0 {
			j.failWith(problem.Conflict, e.path, "its version %s would be dropped, which is used by %s", version, enumerate(users))
		}
	}
}

// names lists the words by which a resource can be referred to.
func names(r *snapshot.Resource) []string {
	out := []string{r.Name}
	if c, ok := r.Message.(*configv1.Certificate); ok {
		for _, id := range certs.IDs(c) {
			if id != r.Name {
				out = append(out, id)
			}
		}
	}
	return out
}

// known reports whether a reference means something: a resource of that name, or a certificate with a version of that id.
func (s *set) known(kind, name string) bool {
	if _, ok := s.get(kind, name); ok || kind != certs.Kind || !certs.IsID(name) {
		return ok
	}
	if s.ids == nil {
		s.ids = s.versions()
	}
	if s.ids[name] {
		return true
	}
	ref, ok := s.view.Claimant(claims.Certificate(name))
	return ok && s.over[id{ref.Kind, ref.Name}] == nil
}

// versions are the ids of the certificates that the request puts.
func (s *set) versions() map[string]bool {
	ids := map[string]bool{}
	for _, o := range s.over {
		if o.entry == nil {
			continue
		}
		if c, ok := o.entry.msg.(*configv1.Certificate); ok {
			for _, id := range certs.IDs(c) {
				ids[id] = true
			}
		}
	}
	return ids
}

// Output fills in what the server says of certificates and authorities beside catalog.SetOutput: what they say of themselves,
// and what in the view, if there is one, uses the stored resource. Messages of other kinds are left alone.
func Output(m proto.Message, view View, r *snapshot.Resource) {
	switch m := m.(type) {
	case *configv1.Certificate:
		certs.Describe(m)
		describeReferences(m, view)
		describeOrder(m, view)
		m.UsedBy = usedBy(view, r)
	case *configv1.CaCertificate:
		if stored, ok := r.Message.(*configv1.CaCertificate); ok {
			m.Info = certs.Authorities(stored)
		}
		m.UsedBy = usedBy(view, r)
	case *configv1.SecretProvider:
		m.UsedBy = usedBy(view, r)
	}
}

// describeReferences says of versions with a reference what was read of them, if anything was.
func describeReferences(c *configv1.Certificate, view View) {
	if view == nil {
		return
	}
	for _, slot := range certs.Slots(c) {
		if certs.Reference(slot.Version) == "" {
			continue
		}
		if _, ok := certs.LocalOf(slot.Version); ok {
			continue // only a chain that is given says anything
		}
		slot.Version.Info = nil
		r, ok := view.Get(certs.KindResolved, certs.ResolvedName(c.GetName(), slot.Version))
		if !ok {
			continue
		}
		if m, ok := r.Message.(*systemv1.ResolvedSecret); ok && m.GetCertificate() != nil {
			slot.Version.Info = certs.VersionInfo(m.GetCertificate())
		}
	}
}

// describeOrder says of a certificate that an authority issues what it issued, and how it goes on.
func describeOrder(c *configv1.Certificate, view View) {
	c.Issued = nil
	if c.GetAcme() == nil || view == nil {
		return
	}
	r, ok := view.Get(certs.KindIssued, c.GetName())
	if !ok {
		return
	}
	m, ok := r.Message.(*systemv1.IssuedCertificate)
	if !ok {
		c.Issued = &configv1.AcmeStatus{LastError: "what was issued cannot be read"}
		return
	}
	c.Issued = &configv1.AcmeStatus{
		RenewAt: m.GetRenewAt(), LastError: m.GetLastError(), FailingSince: m.GetFailingSince(), Failures: m.GetFailures(), NextAttempt: m.GetNextAttempt(),
	}
	if m.GetCertificate() != nil {
		c.Issued.Info = certs.VersionInfo(m.GetCertificate())
	}
}

func usedBy(view View, r *snapshot.Resource) []string {
	if view == nil {
		return nil
	}
	var users []string
	for _, name := range names(r) {
		for ref := range view.References(r.Kind, name) {
			users = append(users, catalog.Ref(ref.Kind, ref.Name))
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}
