package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/ticketkeys"
	"keyward.dev/shared/catalog"
)

// core is what every subcommand that opens groups needs: the store, what seals it, the opened groups and the write path.
type core struct {
	store   *store.Store
	sealer  *sealer.Sealer
	groups  *snapshot.Manager
	catalog *catalog.Catalog
	history *history.Log
	config  *configsvc.Service
}

// openCore connects to the database and puts the write path together. Nothing is decrypted yet. Who is not given references
// admits none; what commands of an operator write has none.
func openCore(ctx context.Context, db Database, keys kek.Keys, refs references, log *slog.Logger) (*core, error) {
	s, err := db.Open(ctx, log)
	if err != nil {
		return nil, err
	}
	c, err := newCore(s, sealer.NewWith(s, keys), refs, log)
	if err != nil {
		s.Close()
	}
	return c, err
}

func newCore(s *store.Store, seal *sealer.Sealer, refs references, log *slog.Logger) (*core, error) {
	cat, err := catalog.New()
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("read admission rules: %w", err)
	}
	unlock := func(ctx context.Context, group string) (snapshot.Vault, error) { return seal.Group(ctx, group) }
	groups := snapshot.NewManager(s, unlock, log)
	past := history.New(s, unlock, cat.Kinds())
	return &core{
		store: s, sealer: seal, groups: groups, catalog: cat, history: past,
		config: configsvc.New(configsvc.Config{
			Store: s, Sealer: seal, Groups: groups, History: past, Admission: admit, Log: log,
			Secrets: refs.secrets, Referring: refs.referring, First: ticketkeys.First, Ordering: refs.ordering,
		}),
	}, nil
}

// errNotBootstrapped tells the operator what comes first.
var errNotBootstrapped = errors.New("this database has no installation yet; run keyward-controlplane bootstrap")
