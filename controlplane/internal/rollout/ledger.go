package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// Vaults gives the vault of a group; *sealer.Sealer does.
type Vaults interface {
	Group(ctx context.Context, name string) (*sealer.Group, error)
}

// Ledger keeps the states, and is the only way to move one without a revision: in a transaction that holds the group's
// head, with a row of the audit trail.
type Ledger struct {
	store  *store.Store
	vaults Vaults
	now    func() time.Time
}

// NewLedger returns a ledger.
func NewLedger(s *store.Store, vaults Vaults, now func() time.Time) *Ledger {
	return &Ledger{store: s, vaults: vaults, now: now}
}

// Phases answers the phase of every group whose changes are held back. They are not authenticated: whoever acts on one
// asks for the state.
func (l *Ledger) Phases(ctx context.Context) (map[string]Phase, error) {
	stored, err := l.store.RolloutPhases(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Phase, len(stored))
	for group, phase := range stored {
		out[group] = Phase(phase)
	}
	return out, nil
}

// State answers the roll-out of a group; nil if nothing holds its changes back.
func (l *Ledger) State(ctx context.Context, group string) (*State, error) {
	row, err := l.store.Rollout(ctx, group)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil //nolint:nilnil // no roll-out is an answer
	}
	if err != nil {
		return nil, err
	}
	vault, err := l.vaults.Group(ctx, group)
	if err != nil {
		return nil, err
	}
	return FromRow(row, vault)
}

// Move stores the state that step answers for the one that holds now; nil leaves it. It answers what was stored.
func (l *Ledger) Move(ctx context.Context, group, actor string, step func(*State) (*State, error)) (*State, error) {
	vault, err := l.vaults.Group(ctx, group) // may ask the KEK: before any lock
	if err != nil {
		return nil, fmt.Errorf("move roll-out of group %s: %w", group, err)
	}
	var next *State
	err = l.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		now, err := Read(ctx, tx, vault)
		if err != nil {
			return err
		}
		if next, err = step(now); err != nil || next == nil {
			return err
		}
		row, err := next.Row(vault)
		if err != nil {
			return err
		}
		if err := tx.SetRollout(ctx, row); err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, audit.Event{
			At: l.now(), Actor: actor, Action: "rollout." + next.verb(now), Subjects: []string{"settings/settings"}, Detail: next.detail(),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("move roll-out of group %s: %w", group, err)
	}
	return next, nil
}

// Read answers the state in a transaction; nil if there is none.
func Read(ctx context.Context, tx *store.GroupTx, vault Vault) (*State, error) {
	row, err := tx.Rollout(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil //nolint:nilnil // no roll-out is an answer
	}
	if err != nil {
		return nil, err
	}
	return FromRow(row, vault)
}

// verb is what the audit trail calls the step from the state before.
func (s *State) verb(before *State) string {
	switch {
	case s.Phase == Paused:
		return "pause"
	case s.Phase == Aborted:
		return "abort"
	case before.Phase == Paused && s.Phase == Rolling, before.Phase == Aborted && s.Phase == Rolling:
		return "resume"
	case s.Actor != "" && s.even():
		return "promote"
	default:
		return "advance"
	}
}

func (s *State) detail() string {
	d := fmt.Sprintf("revision %d: stage %d of %d", s.Revision, s.Stage()+1, len(s.Targets))
	if s.Reason != "" {
		d += ": " + s.Reason
	}
	return d
}
