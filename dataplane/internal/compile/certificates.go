package compile

import (
	"bytes"
	"slices"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// changedCertificates opens the certificates that changed, and makes a new table of what clients are shown. Keys are parsed
// only here: a table of a thousand certificates is made in a moment, their keys are not.
func (b *build) changedCertificates() {
	changes := slices.DeleteFunc(b.changes[kindCerts], sameBytes)
	b.changes[kindCerts] = changes
	before := b.prev.Settings
	if len(changes) == 0 && before != nil && slices.Equal(before.TLS.DefaultCertificates, b.rt.Settings.TLS.DefaultCertificates) &&
		before.TLS.Stapling == b.rt.Settings.TLS.Stapling && !slices.ContainsFunc(b.changes[kindStaples], isNew) {
		return
	}
	held := b.prev.Held.Edit()
	for _, ch := range changes {
		b.forget(kindCerts, ch.uid())
		name, _ := ch.names()
		if c, ok := held.Get(name); ok && c.UID == ch.uid() {
			held.Delete(name)
		}
	}
	for _, ch := range changes { // after all removals: a name may have gone to another certificate
		if ch.after != nil && ch.after.Name != "" {
			held.Put(ch.after.Name, b.certificate(ch.after))
		}
	}
	b.rt.Held = held.Map()
	b.forgetStaples()
	var shown []*sni.Certificate
	for _, c := range b.rt.Held.All() {
		if len(c.Set.SNIs) > 0 {
			shown = append(shown, b.stapled(c))
		}
	}
	b.rt.Certificates = sni.New(shown, b.defaults())
	b.tornNames()
}

// tornNames reports the names that are closed because their certificates say different things. Such are not admitted.
func (b *build) tornNames() {
	together := runtime.Key{Kind: kindCerts} // no record's: it depends on several
	delete(b.rt.Faults, together)
	for _, torn := range b.rt.Certificates.Torn() {
		for _, c := range torn.Certificates {
			b.rt.Faults[together] = append(b.rt.Faults[together], runtime.Fault{
				Kind: kindCerts, UID: c.UID, Name: c.Set.Name,
				Reason: "tls is not what another certificate for " + torn.Name + " says; the name is closed",
			})
		}
	}
}

func isNew(ch change) bool { return !sameRecord(ch) }

// sameBytes reports whether nothing is to be done about a record.
func sameBytes(ch change) bool { return !ch.again && sameRecord(ch) }

// sameRecord reports whether a record came again as it was, as all do with a whole set.
func sameRecord(ch change) bool {
	return ch.before != nil && ch.after != nil && len(ch.after.Bytes) > 0 && bytes.Equal(ch.before.Bytes, ch.after.Bytes)
}

// certificate opens a certificate. One that cannot be used keeps its names, and shows nothing for them.
func (b *build) certificate(r *state.Record) *sni.Certificate {
	m, reason := decoded[*configv1.Certificate](r)
	if reason != "" {
		b.fault(r, reason)
		return sni.Closed(r.UID, r.Name, nil)
	}
	terms, err := termsFor(m)
	set, closing, other := b.openCertificate(m)
	if err != nil {
		closing = append(closing, problem.Violation{Path: "tls", Reason: err.Error()})
	}
	for _, v := range append(other, closing...) {
		b.fault(r, v.Path+" "+v.Reason)
	}
	if len(closing) > 0 || set == nil {
		return sni.Closed(r.UID, r.Name, m.GetSnis()).On(terms)
	}
	return sni.Open(r.UID, set).On(terms)
}

// defaults are what is shown where no certificate is for the name. Of one that is not there nothing is: to show another one
// instead is not what was asked for.
func (b *build) defaults() []*sni.Certificate {
	var out []*sni.Certificate
	for _, reference := range b.rt.Settings.TLS.DefaultCertificates {
		out = append(out, b.stapled(b.referred(reference)))
	}
	return out
}

// referred finds what a reference means: the certificate of that name, or the version of that id.
func (b *build) referred(reference string) *sni.Certificate {
	if c, ok := b.rt.Held.Get(reference); ok {
		return c
	}
	if certs.IsID(reference) {
		for _, c := range b.rt.Held.All() {
			if slices.ContainsFunc(c.Set.Believed(reference), func(v *certs.Version) bool { return v.ID == reference }) {
				return c.Only(reference)
			}
		}
	}
	return sni.Closed("", reference, nil)
}
