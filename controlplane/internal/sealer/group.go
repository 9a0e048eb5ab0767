package sealer

import (
	"errors"
	"fmt"
	"sync/atomic"

	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/store"
)

// Purposes under which rows are sealed and authenticated. They are part of what is stored: never change one.
const (
	purposeResource   = "resources"
	purposeChange     = "changes"
	purposeBaseline   = "baselines"
	purposePastRecord = "baseline_records"
	purposeHead       = "heads"
	purposeAudit      = "audit"
	purposeAdminToken = "admin_tokens"
	purposeJoinToken  = "join_tokens"
	purposeRollout    = "rollouts"
	purposeTerm       = "keyring_terms"
)

// Group seals and opens what belongs to one group. It is safe for concurrent use and stays good when its keyring is
// rotated.
type Group struct {
	uid, name string
	ring      atomic.Pointer[keyring.Ring]
	// stored is how the ring was stored when it was read last; nil if this process made it.
	stored atomic.Pointer[form]
	// next is the form of the keyring that is prepared, if this replica has read it.
	next atomic.Pointer[nextRing]
	// seals counts what was sealed, less what was told.
	seals atomic.Int64
}

func newGroup(uid, name string, ring *keyring.Ring) *Group {
	g := &Group{uid: uid, name: name}
	g.ring.Store(ring)
	return g
}

// UID is the uid of the group.
func (g *Group) UID() string { return g.uid }

// Name is the name of the group.
func (g *Group) Name() string { return g.name }

// KeyringVersion is the version of the keyring in use; heads name it.
func (g *Group) KeyringVersion() int32 { return g.ring.Load().Version() }

// Seal encrypts the record of a resource for its row.
func (g *Group) Seal(kind, uid, name string, labels map[string]string, revision int64, record []byte) ([]byte, error) {
	clear := keyring.Clear{Name: name, Labels: labels}
	g.seals.Add(1)
	sealed, err := g.ring.Load().SealRow(g.resource(kind, uid, revision), clear, record)
	if err != nil {
		return nil, unavailable("seal resource", err)
	}
	return sealed, nil
}

// Open decrypts the record of a row. All the row says in the clear must be what it was when it was sealed, the times
// excepted.
func (g *Group) Open(row store.Row) ([]byte, error) {
	clear := keyring.Clear{Name: row.Name, Labels: row.Labels}
	record, err := g.ring.Load().OpenRow(g.resource(row.Kind, row.UID, row.Revision), clear, row.Sealed)
	if err != nil {
		return nil, g.unreadable(purposeResource, row.Kind, row.UID, err)
	}
	return record, nil
}

// SealChange encrypts the body of a revision.
func (g *Group) SealChange(revision int64, body []byte) ([]byte, error) {
	return g.seal(g.change(revision), body)
}

// OpenChange decrypts the body of a stored revision. The epoch is in the body; the caller compares it.
func (g *Group) OpenChange(c store.Change) ([]byte, error) {
	body, err := g.ring.Load().Open(g.change(c.Revision), c.Sealed)
	if err != nil {
		return nil, g.unreadable(purposeChange, "", fmt.Sprintf("revision %d", c.Revision), err)
	}
	return body, nil
}

// SealBlob encrypts something that is neither resource nor change, e.g. a private key. The purpose is its table.
func (g *Group) SealBlob(purpose, id string, plaintext []byte) ([]byte, error) {
	return g.seal(keyring.Place{Purpose: purpose, Group: g.uid, UID: id}, plaintext)
}

// OpenBlob decrypts what SealBlob made for the same purpose and id.
func (g *Group) OpenBlob(purpose, id string, sealed []byte) ([]byte, error) {
	plaintext, err := g.ring.Load().Open(keyring.Place{Purpose: purpose, Group: g.uid, UID: id}, sealed)
	if err != nil {
		return nil, g.unreadable(purpose, "", id, err)
	}
	return plaintext, nil
}

func (g *Group) resource(kind, uid string, revision int64) keyring.Place {
	return keyring.Place{Purpose: purposeResource, Group: g.uid, Kind: kind, UID: uid, Revision: revision}
}

func (g *Group) change(revision int64) keyring.Place {
	return keyring.Place{Purpose: purposeChange, Group: g.uid, Revision: revision}
}

func (g *Group) unreadable(table, kind, uid string, err error) error {
	reason := "does not open"
	for _, known := range []error{
		keyring.ErrDamaged, keyring.ErrMalformed, keyring.ErrRenamed, keyring.ErrRelabelled, keyring.ErrUnknownTerm,
	} {
		if errors.Is(err, known) {
			reason = known.Error()
		}
	}
	return &UnreadableError{Table: table, Group: g.name, Kind: kind, UID: uid, Reason: reason, err: err}
}
