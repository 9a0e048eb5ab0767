package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

var (
	// ErrUsedUp says that a join token has no use left.
	ErrUsedUp = errors.New("the join token is used up, expired or deleted")
	// ErrRevoked says that the gateway is refused for good.
	ErrRevoked = errors.New("the gateway is revoked")
	// ErrKeyInUse says that another gateway has the key.
	ErrKeyInUse = errors.New("the key belongs to another gateway")
)

// Vaults gives the vault of a group; *sealer.Sealer does.
type Vaults interface {
	Group(ctx context.Context, name string) (*sealer.Group, error)
}

// Rotator makes a new bundle key for the group of a gateway that is revoked, if it has one; *fallback.Keys does.
type Rotator interface {
	RotateIn(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, actor string) error
}

// Ledger makes the audited changes to gateways and join tokens, each in one transaction that holds the group's head.
type Ledger struct {
	store  *store.Store
	vaults Vaults
	keys   Rotator
	now    func() time.Time
}

// NewLedger returns a ledger.
func NewLedger(s *store.Store, vaults Vaults, keys Rotator, now func() time.Time) *Ledger {
	return &Ledger{store: s, vaults: vaults, keys: keys, now: now}
}

// Candidate is an attested gateway that is to be enrolled.
type Candidate struct {
	Group string
	// KeyHash is the SHA-256 of its public key.
	KeyHash  []byte
	Attestor string
	By       string
	// JoinToken is the id of the token of which a use is taken; empty for none.
	JoinToken string
	Labels    map[string]string
	Version   string
}

// Enrol answers the gateway of that key, and makes it if there is none. Only that takes a use of the join token.
func (l *Ledger) Enrol(ctx context.Context, c Candidate) (store.Gateway, error) {
	vault, err := l.vault(ctx, c.Group)
	if err != nil {
		return store.Gateway{}, fmt.Errorf("enrol gateway in group %s: %w", c.Group, err)
	}
	var out store.Gateway
	err = l.store.InGroup(ctx, c.Group, func(ctx context.Context, tx *store.GroupTx) error {
		known, err := enrolled(ctx, tx, c)
		if err == nil {
			out = known
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		out, err = l.create(ctx, tx, vault, c)
		return err
	})
	if err != nil {
		return store.Gateway{}, fmt.Errorf("enrol gateway in group %s: %w", c.Group, err)
	}
	if !out.RevokedAt.IsZero() {
		return store.Gateway{}, ErrRevoked
	}
	return out, nil
}

// vault returns the vault of a group that can have gateways: what belongs to no group cannot.
func (l *Ledger) vault(ctx context.Context, group string) (*sealer.Group, error) {
	if group == store.SystemGroup {
		return nil, store.ErrNotFound
	}
	return l.vaults.Group(ctx, group)
}

// enrolled finds the gateway that has the key, or had it when it used the token.
func enrolled(ctx context.Context, tx *store.GroupTx, c Candidate) (store.Gateway, error) {
	known, err := tx.GatewayByKey(ctx, c.KeyHash)
	if err == nil || !errors.Is(err, store.ErrNotFound) || c.JoinToken == "" {
		return known, err
	}
	id, err := tx.JoinTokenUse(ctx, c.JoinToken, c.KeyHash)
	if err != nil {
		return store.Gateway{}, err
	}
	return tx.Gateway(ctx, id)
}

func (l *Ledger) create(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, c Candidate) (store.Gateway, error) {
	g := store.Gateway{
		ID: store.NewUID(), Group: c.Group, Labels: c.Labels, Version: c.Version, Attestor: c.Attestor, Attestation: c.By,
		SPKIHash: c.KeyHash, EnrolledAt: l.now(),
	}
	if c.JoinToken != "" {
		err := tx.UseJoinToken(ctx, c.JoinToken, c.KeyHash, g.ID, l.now())
		if errors.Is(err, store.ErrConflict) {
			return g, ErrUsedUp
		}
		if err != nil {
			return g, err
		}
	}
	if err := tx.CreateGateway(ctx, g); err != nil {
		return g, err
	}
	e := audit.Event{
		At: l.now(), Actor: "gateway/" + g.ID, Action: "gateway.enrol", Subjects: []string{"gateways/" + g.ID},
		Detail: c.Attestor + " " + c.By,
	}
	return g, audit.Record(ctx, tx, vault, e)
}

// SetGatewayCertificate notes the newest certificate of a gateway that is not revoked, and the gateway if it is not known.
func (l *Ledger) SetGatewayCertificate(ctx context.Context, group, id string, c store.Certificate) error {
	err := l.store.SetGatewayCertificate(ctx, group, id, c)
	if errors.Is(err, store.ErrNotFound) {
		if err := l.Adopt(ctx, group, id, c); err != nil {
			return err
		}
		err = l.store.SetGatewayCertificate(ctx, group, id, c)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrRevoked
	case errors.Is(err, store.ErrConflict):
		return ErrKeyInUse
	}
	return err
}

// Adopt implements Changes. Only this installation gives out certificates, and it notes each gateway before: one that is not
// there was lost with a database that an older backup has replaced.
func (l *Ledger) Adopt(ctx context.Context, group, id string, c store.Certificate) error {
	vault, err := l.vault(ctx, group)
	if err != nil {
		return fmt.Errorf("adopt gateway of group %s: %w", group, err)
	}
	e := audit.Event{
		At: l.now(), Actor: "gateway/" + id, Action: "gateway.adopt", Subjects: []string{"gateways/" + id},
		Detail: "has a certificate and was not in the database",
	}
	err = l.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		known, err := tx.Gateway(ctx, id)
		switch {
		case err == nil && !known.RevokedAt.IsZero():
			return ErrRevoked
		case err == nil || !errors.Is(err, store.ErrNotFound):
			return err
		}
		if _, err := tx.GatewayByKey(ctx, c.SPKIHash); err == nil {
			return ErrKeyInUse
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		g := store.Gateway{
			ID: id, Group: group, Attestor: "certificate", Attestation: c.Serial, SPKIHash: c.SPKIHash, Serial: c.Serial,
			NotAfter: c.NotAfter, EnrolledAt: l.now(),
		}
		if err := tx.CreateGateway(ctx, g); err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, e)
	})
	if err != nil {
		return fmt.Errorf("adopt gateway %s of group %s: %w", id, group, err)
	}
	return nil
}

// Revoke implements Changes. What the gateway could open of its group's bundles it can open no longer.
func (l *Ledger) Revoke(ctx context.Context, group, id, actor, reason string) error {
	e := audit.Event{Actor: actor, Action: "gateway.revoke", Subjects: []string{"gateways/" + id}, Detail: reason}
	return l.audited(ctx, group, e, func(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
		if err := tx.RevokeGateway(ctx, id, actor, reason, l.now()); err != nil {
			return err
		}
		return l.keys.RotateIn(ctx, tx, vault, actor)
	})
}

// CreateJoinToken implements Changes. It answers the row as it was written.
func (l *Ledger) CreateJoinToken(ctx context.Context, t store.JoinToken) (store.JoinToken, error) {
	e := audit.Event{
		Actor: t.CreatedBy, Action: "join-token.create", Subjects: []string{"join-tokens/" + t.ID},
		Detail: fmt.Sprintf("uses %d, expires %s", t.Uses, t.ExpiresAt.Format(time.RFC3339)),
	}
	err := l.audited(ctx, t.Group, e, func(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
		t.GroupUID = tx.Head().GroupUID
		t.MAC = vault.MACJoinToken(t)
		return tx.CreateJoinToken(ctx, t)
	})
	return t, err
}

// DeleteJoinToken implements Changes.
func (l *Ledger) DeleteJoinToken(ctx context.Context, group, id, actor string) error {
	e := audit.Event{Actor: actor, Action: "join-token.delete", Subjects: []string{"join-tokens/" + id}}
	return l.audited(ctx, group, e, func(ctx context.Context, tx *store.GroupTx, _ *sealer.Group) error {
		return tx.DeleteJoinToken(ctx, id, l.now())
	})
}

// JoinToken implements attest.Tokens.
func (l *Ledger) JoinToken(ctx context.Context, id string) (store.JoinToken, error) {
	return l.store.JoinToken(ctx, id)
}

// VerifyJoinToken implements attest.Tokens.
func (l *Ledger) VerifyJoinToken(ctx context.Context, t store.JoinToken) error {
	vault, err := l.vaults.Group(ctx, t.Group)
	if err != nil {
		return fmt.Errorf("open group %s: %w", t.Group, err)
	}
	return vault.VerifyJoinToken(t)
}

type change = func(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error

func (l *Ledger) audited(ctx context.Context, group string, e audit.Event, do change) error {
	vault, err := l.vault(ctx, group)
	if err != nil {
		return fmt.Errorf("open group %s: %w", group, err)
	}
	e.At = l.now()
	return l.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		if err := do(ctx, tx, vault); err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, e)
	})
}
