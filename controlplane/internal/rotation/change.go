package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// look is how often it is asked whether all replicas have read a keyring while somebody waits for it.
const look = 50 * time.Millisecond

// Rotate adds a term to the keyring of a group, and answers when all replicas use it, or when patience is at an end: the
// keyring then says who has not read it, and the change is made in the background as soon as that replica has, or is gone.
func (k *Keeper) Rotate(ctx context.Context, group, actor string) (Keyring, error) {
	return k.change(ctx, sealer.Plan{Group: group, Action: sealer.Rotate, Actor: actor, At: k.now()})
}

// Remove removes a term from the keyring of a group, as Rotate adds one. It is refused while anything is sealed under it.
func (k *Keeper) Remove(ctx context.Context, group string, term uint32, actor string) (Keyring, error) {
	made, err := k.change(ctx, sealer.Plan{Group: group, Action: sealer.Remove, Term: term, Actor: actor, At: k.now()})
	if errors.Is(err, store.ErrTermInUse) { // whatever was noted, there is something to rewrap
		err = errors.Join(err, k.again(ctx, group))
	}
	return made, err
}

// Rewrap has all that is stored of a group looked through for what is not under the newest term. It is done in the
// background.
func (k *Keeper) Rewrap(ctx context.Context, group, actor string) (Keyring, error) {
	g, err := k.cfg.Sealer.Group(ctx, group)
	if err != nil {
		return Keyring{}, err
	}
	err = k.cfg.Store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		event := audit.Event{At: k.now(), Actor: actor, Action: "keyring.rewrap", Subjects: []string{"keyrings/" + group}}
		if err := audit.Record(ctx, tx, g, event); err != nil {
			return err
		}
		return tx.DrainAgain(ctx)
	})
	if err != nil {
		return Keyring{}, fmt.Errorf("rewrap group %s: %w", group, err)
	}
	k.rested(g.UID())
	k.Poke()
	return k.Get(ctx, group)
}

func (k *Keeper) again(ctx context.Context, group string) error {
	return k.cfg.Store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error { return tx.DrainAgain(ctx) })
}

func (k *Keeper) change(ctx context.Context, p sealer.Plan) (Keyring, error) {
	next, err := k.cfg.Sealer.Prepare(ctx, p)
	if err != nil {
		return Keyring{}, explained(err)
	}
	end := time.NewTimer(k.cfg.Patience)
	defer end.Stop()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		settled, err := k.settle(ctx, next)
		if err != nil {
			return Keyring{}, explained(err)
		}
		if settled {
			return k.Get(ctx, p.Group)
		}
		select {
		case <-ctx.Done():
			return Keyring{}, ctx.Err()
		case <-end.C:
			return k.Get(ctx, p.Group)
		case <-ticker.C:
		}
	}
}

// settle notes that this replica has read what is prepared, and makes it the keyring when all have. It answers whether
// nothing is left to do.
func (k *Keeper) settle(ctx context.Context, n store.NextKeyring) (bool, error) {
	if err := k.cfg.Store.HasReadKeyring(ctx, n.ID, k.cfg.Replica); err != nil {
		return false, err
	}
	waiting, err := k.cfg.Store.NotRead(ctx, n.ID)
	if errors.Is(err, store.ErrNotFound) {
		return k.overtaken(ctx, n)
	}
	if err != nil || len(waiting) > 0 {
		return false, err
	}
	err = k.cfg.Sealer.Commit(ctx, n.Group, n.ID, k.now(), everybodyHasRead(n.ID))
	switch {
	case errors.Is(err, errNotRead):
		return false, nil
	case errors.Is(err, store.ErrTermInUse):
		return false, errors.Join(err, k.cfg.Sealer.Discard(ctx, n.Group, n.ID, "ciphertext came under it", k.now()))
	case errors.Is(err, sealer.ErrRotated):
		return k.overtaken(ctx, n)
	case err == nil:
		k.cfg.Log.InfoContext(ctx, "keyring changed", "group", n.Group, "action", n.Action, "term", n.Term, "version", n.Version)
		k.Poke()
	}
	return err == nil, err
}

// overtaken is when somebody else changed the keyring: by what was prepared, and all is well, or otherwise, and what was
// prepared is left over.
func (k *Keeper) overtaken(ctx context.Context, n store.NextKeyring) (bool, error) {
	if err := k.cfg.Sealer.Discard(ctx, n.Group, n.ID, "the keyring was changed otherwise", k.now()); err != nil {
		return false, err
	}
	g, err := k.cfg.Sealer.Group(ctx, n.Group)
	if err != nil {
		return false, err
	}
	err = k.cfg.Sealer.Refresh(ctx)
	terms := g.Terms()
	if terms.Version >= n.Version && slices.Contains(terms.Opening, n.Term) == (n.Action == sealer.Rotate) {
		return true, nil
	}
	return false, errors.Join(fmt.Errorf("%s keyring of group %s: %w", n.Action, n.Group, sealer.ErrRotated), err)
}

var errNotRead = errors.New("a replica has not read the keyring")

func everybodyHasRead(id string) func(context.Context, *store.GroupTx) error {
	return func(ctx context.Context, tx *store.GroupTx) error {
		waiting, err := tx.NotRead(ctx, id)
		if err == nil && len(waiting) > 0 {
			err = fmt.Errorf("%w: %s", errNotRead, strings.Join(waiting, ", "))
		}
		return err
	}
}

// explained gives what a person can do something about its code.
func explained(err error) error {
	inUse := &store.TermInUseError{}
	switch {
	case errors.As(err, &inUse):
		return problem.Wrap(problem.Conflict, inUse.Error()+"; it is rewrapped in the background, see keyward keyring list", err)
	case errors.Is(err, sealer.ErrPrepared):
		return problem.Wrap(problem.Conflict, "a change of this keyring is under way; keyward keyring list says who has yet to read it", err)
	case errors.Is(err, sealer.ErrRotated):
		return problem.Wrap(problem.Conflict, "the keyring was changed by another replica at the same time; look at it and try again", err)
	case errors.Is(err, keyring.ErrLastTerm):
		return problem.Wrap(problem.Conflict, "this is the newest term; rotate the keyring first", err)
	case errors.Is(err, keyring.ErrUnknownTerm):
		return problem.Wrap(problem.NotFound, "the keyring has no such term, or has it no longer", err)
	}
	return err
}

func (k *Keeper) now() time.Time { return k.cfg.Now().UTC().Truncate(time.Microsecond) }
