package app

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// adminTokens keeps the admin tokens: rows authenticated under the system keyring, every change in the system's audit
// chain.
type adminTokens struct {
	store  *store.Store
	sealer *sealer.Sealer
	now    func() time.Time
	log    *slog.Logger
}

// AdminTokens answers the tokens whose rows are authentic. One that somebody wrote past the control plane opens nothing.
func (a *adminTokens) AdminTokens(ctx context.Context) ([]adminauth.Token, error) {
	system, err := a.sealer.System(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := a.store.AdminTokens(ctx)
	if err != nil {
		return nil, err
	}
	tokens := make([]adminauth.Token, 0, len(rows))
	for _, row := range rows {
		if err := system.VerifyAdminToken(row); err != nil {
			a.log.ErrorContext(ctx, "admin token ignored: its row is not authentic", "token", row.ID, "err", err)
			continue
		}
		t, err := tokenOf(row)
		if err != nil {
			a.log.ErrorContext(ctx, "admin token ignored", "token", row.ID, "err", err)
			continue
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

func tokenOf(row store.AdminToken) (adminauth.Token, error) {
	t := adminauth.Token{
		ID: row.ID, Name: row.Name, Hash: [sha256.Size]byte(row.SecretHash), CreatedAt: row.CreatedAt, Expires: row.ExpiresAt,
	}
	for _, g := range row.Grants {
		role, err := adminauth.ParseRole(g.Role)
		if err != nil {
			return t, err
		}
		t.Grants = append(t.Grants, adminauth.Grant{Group: g.Group, Role: role})
	}
	return t, nil
}

// CreateAdminToken stores a token.
func (a *adminTokens) CreateAdminToken(ctx context.Context, actor string, t adminauth.Token) error {
	row := store.AdminToken{
		ID: t.ID, Name: t.Name, SecretHash: t.Hash[:], CreatedBy: actor,
		CreatedAt: micro(t.CreatedAt), ExpiresAt: micro(t.Expires),
	}
	for _, g := range t.Grants {
		row.Grants = append(row.Grants, store.Grant{Group: g.Group, Role: adminauth.RoleWord(g.Role)})
	}
	return a.audited(ctx, actor, "admin-token.create", t.ID, t.Name, func(ctx context.Context, tx *store.GroupTx, system *sealer.Group) error {
		row.MAC = system.MACAdminToken(row)
		return tx.CreateAdminToken(ctx, row)
	})
}

// DeleteAdminToken makes a token useless.
func (a *adminTokens) DeleteAdminToken(ctx context.Context, actor, id string) error {
	row, err := a.store.AdminToken(ctx, id)
	if err != nil {
		return err
	}
	return a.audited(ctx, actor, "admin-token.delete", id, row.Name, func(ctx context.Context, tx *store.GroupTx, system *sealer.Group) error {
		row.DeletedAt = micro(a.now())
		row.MAC = system.MACAdminToken(row)
		return tx.DeleteAdminToken(ctx, row)
	})
}

func (a *adminTokens) audited(ctx context.Context, actor, action, id, name string, do func(context.Context, *store.GroupTx, *sealer.Group) error) error {
	system, err := a.sealer.System(ctx)
	if err != nil {
		return err
	}
	return a.store.InSystem(ctx, func(ctx context.Context, tx *store.GroupTx) error {
		if err := do(ctx, tx, system); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		return audit.Record(ctx, tx, system, audit.Event{
			At: a.now(), Actor: actor, Action: action, Subjects: []string{"admin-tokens/" + id}, Detail: name,
		})
	})
}

// micro is a time as the database keeps it.
func micro(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

// auditLog reads the audit chains.
type auditLog struct {
	*store.Store
	sealer *sealer.Sealer
}

// VerifyAudit walks the chain of a group at one moment.
func (a auditLog) VerifyAudit(ctx context.Context, group string) (report audit.Report, err error) {
	chain, err := a.sealer.Group(ctx, group)
	if err != nil {
		return audit.Report{}, err
	}
	err = a.InSnapshot(ctx, group, func(ctx context.Context, r *store.Reader) error {
		report, err = audit.Verify(ctx, r, chain)
		return err
	})
	return report, err
}
