package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// bySystem is who rotates when nobody asked for it.
const bySystem = "system"

// Force begins the rotation of every keyring whose newest term is too old or has sealed too much. A background job (package
// jobs) calls it, on any replica. A group that fails does not hold up the others.
func (k *Keeper) Force(ctx context.Context) error {
	if k.cfg.MaxAge <= 0 && k.cfg.MaxSeals <= 0 {
		return nil
	}
	groups, err := k.groups(ctx)
	if err != nil {
		return err
	}
	kept, err := k.kept(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, group := range groups {
		if err := k.force(ctx, group, kept); err != nil {
			errs = append(errs, fmt.Errorf("rotate keyring of group %s: %w", group.Name, err))
		}
	}
	k.Poke()
	return errors.Join(errs...)
}

func (k *Keeper) force(ctx context.Context, group store.Group, kept map[termKey]store.KeyringTerm) error {
	g, err := k.cfg.Sealer.Group(ctx, group.Name)
	if err != nil {
		return err
	}
	term := k.known(g, group, kept, g.Terms().Newest)
	why := k.due(term)
	if why == "" {
		return nil
	}
	_, err = k.cfg.Sealer.Prepare(ctx, sealer.Plan{Group: group.Name, Action: sealer.Rotate, Actor: bySystem, At: k.now()})
	if errors.Is(err, sealer.ErrPrepared) || errors.Is(err, sealer.ErrRotated) {
		return nil // it is being done, or was
	}
	if err == nil {
		k.cfg.Log.InfoContext(ctx, "keyring is rotated", "group", group.Name, "reason", why)
	}
	return err
}

// due says why a term has to be followed by another one, if it has to.
func (k *Keeper) due(t store.KeyringTerm) string {
	age := k.cfg.Now().Sub(t.CreatedAt)
	switch {
	case k.cfg.MaxAge > 0 && age > k.cfg.MaxAge:
		return fmt.Sprintf("its newest term is %s old", age.Round(time.Second))
	case k.cfg.MaxSeals > 0 && t.Seals >= k.cfg.MaxSeals:
		return fmt.Sprintf("its newest term has sealed %d times", t.Seals)
	default:
		return ""
	}
}

// termKey names a term of a group.
type termKey struct {
	groupUID string
	term     uint32
}

// kept reads what is kept of all terms.
func (k *Keeper) kept(ctx context.Context) (map[termKey]store.KeyringTerm, error) {
	terms, err := k.cfg.Store.KeyringTerms(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[termKey]store.KeyringTerm, len(terms))
	for _, t := range terms {
		out[termKey{t.GroupUID, t.Term}] = t
	}
	return out, nil
}

// known is what is known of a term. Where nothing is kept, or what is kept was altered, it is as old as its group: that can
// only bring a rotation forward.
func (k *Keeper) known(g *sealer.Group, group store.Group, kept map[termKey]store.KeyringTerm, term uint32) store.KeyringTerm {
	t, ok := kept[termKey{g.UID(), term}]
	if !ok || !g.VerifyTerm(t) {
		return store.KeyringTerm{GroupUID: g.UID(), Term: term, CreatedAt: group.CreatedAt, Seals: t.Seals, DrainedAt: t.DrainedAt}
	}
	return t
}

// groups lists all groups, the system first.
func (k *Keeper) groups(ctx context.Context) ([]store.Group, error) {
	system, err := k.cfg.Store.Group(ctx, store.SystemGroup)
	if err != nil {
		return nil, err
	}
	list, err := k.cfg.Store.Groups(ctx)
	return append([]store.Group{system}, list...), err
}
