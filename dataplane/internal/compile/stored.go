package compile

import (
	"keyward.dev/dataplane/internal/credentials"
	"keyward.dev/dataplane/internal/state"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/tokenpair"
)

// changedStored enters what was read in credential stores into the directory: pairs of tokens that changed, like credentials of
// the group, and how it is with the stores. Of a store that cannot be read here nothing is known.
func (b *build) changedStored() {
	for _, ch := range b.changes[kindStored] {
		b.forget(kindStored, ch.uid())
		b.directory.RemoveCredential(ch.uid())
		b.directory.SetReadable(ch.uid())
	}
	for r, got := range ahead(after(b.changes[kindStored]), readStored) {
		switch {
		case got.reason != "":
			b.fault(r, got.reason)
			b.directory.SetUnreadable(r.UID, tokenpair.Type)
		case got.credential.Consumer != "":
			b.directory.PutCredential(got.credential)
		}
	}
	if len(b.changes[kindStates]) > 0 {
		b.knownStores()
	}
}

func (b *build) knownStores() {
	for _, ch := range b.changes[kindStates] {
		b.forget(kindStates, ch.uid())
	}
	known := map[string]bool{}
	for r := range b.rt.Set.All(kindStates) {
		m, reason := decoded[*systemv1.CredentialStoreState](r)
		if reason != "" {
			b.fault(r, reason)
			continue
		}
		if m.GetKnown() {
			known[r.Name] = true
		}
	}
	b.directory.SetStores(known)
}

// readStored is a pair of tokens for the directory; one without a consumer is nobody's, or does not count now.
func readStored(r *state.Record) (got readable) {
	m, reason := decoded[*systemv1.StoredCredential](r)
	if reason != "" {
		return readable{reason: reason}
	}
	got.credential, got.reason = credentials.Stored(m)
	got.credential.UID, got.credential.Name = r.UID, r.Name
	return got
}
