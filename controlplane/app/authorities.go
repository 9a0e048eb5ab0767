package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// authorities keeps the internal certificate authorities under the lock of the system's head.
type authorities struct {
	*store.Store
	system *sealer.Group
	actor  string
}

// UpdateAuthorities carries out what plan answers, all or nothing.
func (a authorities) UpdateAuthorities(ctx context.Context, plan func([]store.Authority) (pki.Plan, error)) error {
	return a.InSystem(ctx, func(ctx context.Context, tx *store.GroupTx) error {
		stored, err := tx.Authorities(ctx)
		if err != nil {
			return err
		}
		p, err := plan(stored)
		if err != nil || len(p.States)+len(p.Create) == 0 {
			return err
		}
		return a.carryOut(ctx, tx, p)
	})
}

func (a authorities) carryOut(ctx context.Context, tx *store.GroupTx, p pki.Plan) error {
	event := audit.Event{At: time.Now(), Actor: cmp.Or(p.Actor, a.actor), Action: "authority." + cmp.Or(p.Action, "update"), Detail: p.Detail}
	for _, id := range inTurn(p.States) {
		if err := tx.SetAuthorityState(ctx, id, p.States[id]); err != nil {
			return err
		}
		event.Subjects = append(event.Subjects, fmt.Sprintf("authorities/%s (%s)", id, p.States[id]))
	}
	for _, row := range p.Create {
		row.NotBefore, row.NotAfter, row.CreatedAt = micro(row.NotBefore), micro(row.NotAfter), micro(row.CreatedAt)
		if err := tx.CreateAuthority(ctx, row); err != nil {
			return err
		}
		event.Subjects = append(event.Subjects, fmt.Sprintf("authorities/%s (new %s)", row.ID, row.Kind))
	}
	return audit.Record(ctx, tx, a.system, event)
}

// inTurn puts the authority that becomes current after the one that ceases to be: the table never holds two.
func inTurn(states map[string]string) []string {
	ids := slices.Sorted(maps.Keys(states))
	slices.SortStableFunc(ids, func(a, b string) int {
		switch current := "current"; {
		case states[a] == current && states[b] != current:
			return 1
		case states[b] == current && states[a] != current:
			return -1
		}
		return 0
	})
	return ids
}
