package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/vaultkv"
	"keyward.dev/controlplane/internal/vaultlease"
	"keyward.dev/shared/settings"
)

// inVault is a secret in Vault: kept there, or a field of what Vault makes for us.
type inVault struct {
	kept  *vaultkv.Secret
	held  *vaultlease.Held
	field string
}

func (v inVault) read(ctx context.Context) (string, error) {
	if v.held == nil {
		return v.kept.Read(ctx)
	}
	texts, err := v.held.Read(ctx, v.field)
	if err != nil {
		return "", err
	}
	return texts[0], nil
}

func (v inVault) run(ctx context.Context, log *slog.Logger) error {
	if v.held == nil {
		return v.kept.Run(ctx, log)
	}
	return v.held.Run(ctx, log)
}

// asked finds who is asked for a secret in Vault.
func (p *places) asked(at string) (inVault, error) {
	place, field, leased := vaultlease.Split(at)
	if !leased {
		kept, err := p.open(at)
		return inVault{kept: kept}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.leases[place]
	if held == nil {
		var err error
		if held, err = vaultlease.Open(at, p.lookup); err != nil {
			return inVault{}, err
		}
		p.leases[place] = held
	}
	return inVault{held: held, field: field}, nil
}

// leasedAt is where in Vault a secret is made, the same for all that is made there at once; empty for one that is not.
func leasedAt(s settings.Secret) string {
	place, _, leased := vaultlease.Split(s.Vault())
	if !leased {
		return ""
	}
	return place
}

// pair reads user and password; those that Vault makes are of one lease.
func (p *places) pair(ctx context.Context, user, password settings.Secret) (name, word string, err error) {
	if leasedAt(user) == "" {
		if name, err = p.read(ctx, "database-user", user); err == nil {
			word, err = p.read(ctx, "database-password", password)
		}
		return name, word, err
	}
	first, err := p.asked(user.Vault())
	if err != nil {
		return "", "", fmt.Errorf("database-user: %w", err)
	}
	second, err := p.asked(password.Vault())
	if err != nil {
		return "", "", fmt.Errorf("database-password: %w", err)
	}
	texts, err := first.held.Read(ctx, first.field, second.field)
	if err != nil {
		return "", "", fmt.Errorf("login to the database: %w", err)
	}
	return texts[0], texts[1], nil
}

// outdated is for store.Config: whether the user that Vault makes is another one by now. Nil for one that it does not make.
func (p *places) outdated(user settings.Secret) func(name string) bool {
	if leasedAt(user) == "" {
		return nil
	}
	from, err := p.asked(user.Vault())
	if err != nil { // as reading it says
		return nil
	}
	return func(name string) bool { return from.held.Replaced(from.field, name) }
}

// giveBack is how long a replica that ends waits for Vault to take back what it made. What it does not is over at its end.
const giveBack = 3 * time.Second

// end gives back what Vault has made.
func (p *places) end(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBack)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, held := range p.leases {
		if err := held.Return(ctx); err != nil {
			log.WarnContext(ctx, "what Vault has made could not be given back; it ends by itself", "err", err)
		}
	}
}
