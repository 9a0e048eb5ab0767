package sealer

import (
	"fmt"

	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/store"
)

// Terms says which terms the keyring of a group has, all by number, ascending.
type Terms struct {
	Version int32
	// Newest seals. Opening are those that open, the newest among them. Verifying were removed; what they authenticated still
	// verifies.
	Newest             uint32
	Opening, Verifying []uint32
}

// Terms describes the keyring that is loaded.
func (g *Group) Terms() Terms {
	ring := g.ring.Load()
	return Terms{Version: ring.Version(), Newest: ring.Newest(), Opening: ring.Terms(), Verifying: ring.Verifying()}
}

// Seals answers the number of the term that seals, and how often this replica has sealed, less what was Told.
func (g *Group) Seals() (term uint32, n int64) {
	return g.ring.Load().Newest(), g.seals.Load()
}

// Told takes off what is counted elsewhere now.
func (g *Group) Told(n int64) { g.seals.Add(-n) }

// Rewrap seals anew what an older term sealed, for the same place. A row that does not open stays what it is.
func (g *Group) Rewrap(row store.SealedRow) ([]byte, error) {
	p := keyring.Place{Purpose: row.Table, Group: g.uid, Kind: row.Kind, UID: row.UID, Revision: row.Revision}
	g.seals.Add(1)
	sealed, err := g.ring.Load().Rewrap(p, row.Sealed)
	if err != nil {
		uid := row.UID
		if uid == "" {
			uid = fmt.Sprintf("revision %d", row.Revision)
		}
		return nil, g.unreadable(row.Table, row.Kind, uid, err)
	}
	return sealed, nil
}
