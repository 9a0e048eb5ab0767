package sealer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/store"
)

// KEKUse is a key-encryption key with the groups whose keyrings it wraps, by name.
type KEKUse struct {
	ID     string
	Role   kek.Role
	Groups []string
}

// KEKs answers which key wraps which keyrings, that of the system too: the keys of this process, the current one first,
// then those that are missing.
func (s *Sealer) KEKs(ctx context.Context) ([]KEKUse, error) {
	rings, err := s.rings(ctx)
	if err != nil {
		return nil, err
	}
	groups := map[string][]string{}
	for _, r := range rings {
		groups[r.row.KEKID] = append(groups[r.row.KEKID], r.group)
	}
	ids := s.keys.IDs()
	for _, id := range slices.Sorted(maps.Keys(groups)) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	uses := make([]KEKUse, 0, len(ids))
	for _, id := range ids {
		_, role := s.keys.Find(id)
		slices.Sort(groups[id])
		uses = append(uses, KEKUse{ID: id, Role: role, Groups: groups[id]})
	}
	return uses, nil
}

// OpenAll opens every keyring that is not open yet, so that they work on while the key-encryption key is away. A keyring
// that is damaged is named in damaged and does not keep the others from it; err says that some could not be asked for.
func (s *Sealer) OpenAll(ctx context.Context) (damaged []error, err error) {
	rings, err := s.rings(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rings {
		_, err := s.Group(ctx, r.group)
		switch {
		case errors.Is(err, ErrUnreadable):
			damaged = append(damaged, err)
		case err != nil:
			return damaged, err
		}
	}
	return damaged, nil
}

// Rewrap wraps with the current key-encryption key what a retired one wraps. It answers how many keyrings it did. It may
// be interrupted and run beside itself. A keyring that does not open, because it is damaged or its key is away, stays as it
// is and does not hold up the others.
func (s *Sealer) Rewrap(ctx context.Context, actor string, log *slog.Logger) (done int, err error) {
	rings, err := s.rings(ctx)
	if err != nil {
		return 0, err
	}
	rings = slices.DeleteFunc(rings, func(r ring) bool { return !s.retired(r.row) })
	// Replicas that do this at once meet different ones first.
	rand.Shuffle(len(rings), func(i, j int) { rings[i], rings[j] = rings[j], rings[i] })
	away := map[string]bool{} // retired keys that do not answer
	var errs []error
	for i, r := range rings {
		if away[r.row.KEKID] {
			continue
		}
		g, err := s.load(ctx, r.group)
		if err != nil {
			away[r.row.KEKID] = errors.Is(err, ErrUnavailable)
			errs = append(errs, err)
			continue
		}
		did, err := s.rewrap(ctx, g, actor)
		if err != nil {
			return done, errors.Join(append(errs, err)...)
		}
		if did {
			done++
		}
		if (i+1)%100 == 0 {
			log.InfoContext(ctx, "keyrings are being wrapped with the current key-encryption key", "done", i+1, "of", len(rings))
		}
	}
	return done, errors.Join(errs...)
}

func (s *Sealer) retired(row store.Keyring) bool {
	_, role := s.keys.Find(row.KEKID)
	return role == kek.RoleRetired
}

// rewrap does one group. The ring and its version stay what they are, so a replica that has it open notices nothing, even
// one that does not have the new key. It is wrapped, and unwrapped for a trial, before the head is locked.
func (s *Sealer) rewrap(ctx context.Context, g *Group, actor string) (done bool, err error) {
	wrapped, err := s.wrap(ctx, g.uid, g.ring.Load())
	if err != nil {
		return false, err
	}
	err = s.store.InGroup(ctx, g.name, func(ctx context.Context, tx *store.GroupTx) error {
		done = false // of a try that was rolled back
		row, err := tx.Reader().Keyring(ctx)
		if err != nil || !s.retired(row) || row.Version != g.KeyringVersion() {
			return err // somebody else was faster, or it was rotated and the next run comes to it
		}
		event := audit.Event{
			At: time.Now(), Actor: actor, Action: "keyring.kek", Subjects: []string{"keyrings/" + g.name},
			Detail: fmt.Sprintf("version %d, from %s to %s", row.Version, row.KEKID, s.kek.ID()),
		}
		row.KEKID, row.Wrapped, row.UpdatedAt = s.kek.ID(), wrapped, event.At
		if err := tx.SetKeyring(ctx, row); err != nil {
			return err
		}
		done = true
		return audit.Record(ctx, tx, g, event)
	})
	if err != nil {
		return false, fmt.Errorf("wrap keyring of group %s again: %w", g.name, err)
	}
	return done, nil
}

// ring is a keyring as it is stored, and whose.
type ring struct {
	group string
	row   store.Keyring
}

func (s *Sealer) rings(ctx context.Context) ([]ring, error) {
	rows, err := s.store.Keyrings(ctx)
	if err != nil {
		return nil, fmt.Errorf("list keyrings: %w", err)
	}
	groups, err := s.store.Groups(ctx) // after the rows: each has its group
	if err != nil {
		return nil, fmt.Errorf("list keyrings: %w", err)
	}
	names := map[string]string{store.SystemUID: store.SystemGroup}
	for _, g := range groups {
		names[g.UID] = g.Name
	}
	rings := make([]ring, 0, len(rows))
	for _, row := range rows {
		rings = append(rings, ring{names[row.GroupUID], row})
	}
	return rings, nil
}
