package app

import (
	"context"
	"time"

	"keyward.dev/controlplane/internal/certstatus"
)

// newStatusKeeper fetches what others say of certificates.
func (p *plane) newStatusKeeper() (*certstatus.Keeper, error) {
	rules, err := p.settings.Tenants.egress()
	if err != nil {
		return nil, err
	}
	unlock := func(ctx context.Context, group string) (certstatus.Vault, error) {
		return p.core.sealer.Group(ctx, group)
	}
	return certstatus.New(certstatus.Config{
		Database: p.core.store, Unlock: unlock, Groups: p.core.groups, Writer: p.core.config,
		Fetcher: rules.Fetcher(), Now: time.Now, Log: p.log,
	}), nil
}
