package rotation

import (
	"context"
	"errors"
	"slices"
	"time"

	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// States of a term.
const (
	// Newest seals.
	Newest = "newest"
	// Enabled opens what it sealed.
	Enabled = "enabled"
	// VerifyOnly opens nothing any more; what it authenticated still verifies.
	VerifyOnly = "verify-only"
)

// Term is a term of a keyring.
type Term struct {
	Number    uint32
	State     string
	CreatedAt time.Time
	// Seals is how often it sealed, to within the last seconds.
	Seals int64
	// Rows is how much is stored under it now.
	Rows int64
}

// Keyring is what there is to say of a keyring.
type Keyring struct {
	Group     string
	Version   int32
	KEKID     string
	UpdatedAt time.Time
	Terms     []Term
	// Remaining is how many rows are not under the newest term.
	Remaining int64
	// Next is what is prepared, nil if nothing is, and Waiting who has not read it.
	Next    *store.NextKeyring
	Waiting []string
	// Fault says why it cannot be used; its terms are then not known. Only List has keyrings with one.
	Fault string
}

// Get describes the keyring of a group.
func (k *Keeper) Get(ctx context.Context, group string) (Keyring, error) {
	row, err := k.cfg.Store.Group(ctx, group)
	if err != nil {
		return Keyring{}, err
	}
	kept, next, err := k.stored(ctx)
	if err != nil {
		return Keyring{}, err
	}
	return k.describe(ctx, row, kept, next)
}

// List describes the keyrings of the groups for which may answers true, the system first. One that cannot be used does not
// keep the others from being shown.
func (k *Keeper) List(ctx context.Context, may func(group string) bool) ([]Keyring, error) {
	groups, err := k.groups(ctx)
	if err != nil {
		return nil, err
	}
	kept, next, err := k.stored(ctx)
	if err != nil {
		return nil, err
	}
	var out []Keyring
	for _, group := range groups {
		if !may(group.Name) {
			continue
		}
		one, err := k.describe(ctx, group, kept, next)
		if errors.Is(err, sealer.ErrUnreadable) || errors.Is(err, sealer.ErrUnavailable) {
			one, err = Keyring{Group: group.Name, Fault: err.Error()}, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// stored reads what is stored of all keyrings beside the rings.
func (k *Keeper) stored(ctx context.Context) (map[termKey]store.KeyringTerm, []store.NextKeyring, error) {
	kept, err := k.kept(ctx)
	if err != nil {
		return nil, nil, err
	}
	next, err := k.cfg.Store.NextKeyrings(ctx)
	return kept, next, err
}

func (k *Keeper) describe(ctx context.Context, group store.Group, kept map[termKey]store.KeyringTerm, next []store.NextKeyring) (Keyring, error) {
	one, err := k.one(ctx, group, kept)
	if err != nil {
		return Keyring{}, err
	}
	for _, n := range next {
		if n.Group != group.Name {
			continue
		}
		waiting, err := k.cfg.Store.NotRead(ctx, n.ID)
		if errors.Is(err, store.ErrNotFound) { // it has just been made the keyring
			return k.one(ctx, group, kept)
		}
		if err != nil {
			return Keyring{}, err
		}
		one.Next, one.Waiting = &n, waiting
	}
	return one, nil
}

func (k *Keeper) one(ctx context.Context, group store.Group, kept map[termKey]store.KeyringTerm) (Keyring, error) {
	g, err := k.cfg.Sealer.Group(ctx, group.Name)
	if err != nil {
		return Keyring{}, err
	}
	row, err := k.cfg.Store.Keyring(ctx, group.UID)
	if err != nil {
		return Keyring{}, err
	}
	if row.Version != g.Terms().Version { // this replica has yet to hear of it
		if err := k.cfg.Sealer.Refresh(ctx); err != nil {
			return Keyring{}, err
		}
	}
	rows, err := k.cfg.Store.TermRows(ctx, group.UID)
	if err != nil {
		return Keyring{}, err
	}
	terms := g.Terms()
	out := Keyring{Group: group.Name, Version: terms.Version, KEKID: row.KEKID, UpdatedAt: row.UpdatedAt}
	for _, number := range numbers(terms) {
		t := k.known(g, group, kept, number)
		term := Term{Number: number, State: stateOf(terms, number), CreatedAt: t.CreatedAt, Seals: t.Seals}
		for _, r := range rows {
			if r.Term == number {
				term.Rows += r.Rows
			}
		}
		if number != terms.Newest {
			out.Remaining += term.Rows
		}
		out.Terms = append(out.Terms, term)
	}
	return out, nil
}

func numbers(t sealer.Terms) []uint32 {
	all := slices.Concat(t.Opening, t.Verifying)
	slices.Sort(all)
	return all
}

func stateOf(t sealer.Terms, number uint32) string {
	switch {
	case number == t.Newest:
		return Newest
	case slices.Contains(t.Opening, number):
		return Enabled
	default:
		return VerifyOnly
	}
}
