package sealer

import (
	"fmt"

	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/store"
)

// SealBaseline encrypts the state of the digest of a group's baseline.
func (g *Group) SealBaseline(revision int64, state []byte) ([]byte, error) {
	return g.seal(g.baseline(revision), state)
}

// OpenBaseline decrypts the state of the digest of a group's baseline.
func (g *Group) OpenBaseline(b store.Baseline) ([]byte, error) {
	state, err := g.ring.Load().Open(g.baseline(b.Revision), b.Sealed)
	if err != nil {
		return nil, g.unreadable(purposeBaseline, "", fmt.Sprintf("revision %d", b.Revision), err)
	}
	return state, nil
}

// SealPastRecord encrypts a record of the baseline; revision is the one that put it.
func (g *Group) SealPastRecord(kind, uid string, revision int64, record []byte) ([]byte, error) {
	return g.seal(g.pastRecord(kind, uid, revision), record)
}

// OpenPastRecord decrypts a record of the baseline.
func (g *Group) OpenPastRecord(row store.Row) ([]byte, error) {
	record, err := g.ring.Load().Open(g.pastRecord(row.Kind, row.UID, row.Revision), row.Sealed)
	if err != nil {
		return nil, g.unreadable(purposePastRecord, row.Kind, row.UID, err)
	}
	return record, nil
}

func (g *Group) seal(p keyring.Place, plaintext []byte) ([]byte, error) {
	g.seals.Add(1)
	sealed, err := g.ring.Load().Seal(p, plaintext)
	if err != nil {
		return nil, unavailable("seal "+p.Purpose, err)
	}
	return sealed, nil
}

func (g *Group) baseline(revision int64) keyring.Place {
	return keyring.Place{Purpose: purposeBaseline, Group: g.uid, Revision: revision}
}

func (g *Group) pastRecord(kind, uid string, revision int64) keyring.Place {
	return keyring.Place{Purpose: purposePastRecord, Group: g.uid, Kind: kind, UID: uid, Revision: revision}
}
