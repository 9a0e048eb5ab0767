package app

import (
	"context"
	"fmt"
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
	event := audit.Event{At: time.Now(), Actor: a.actor, Action: "authority.update"}
	for id, state := range p.States {
		if err := tx.SetAuthorityState(ctx, id, state); err != nil {
			return err
		}
		event.Subjects = append(event.Subjects, fmt.Sprintf("authorities/%s (%s)", id, state))
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
