package app

import (
	"context"
	"time"

	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/issuance"
	"keyward.dev/controlplane/internal/jobs"
)

// newIssuance needs the registry, which knows the gateways.
func (p *plane) newIssuance(woken *inbox.Inbox) (*issuance.Service, error) {
	rules, err := p.settings.Tenants.egress()
	if err != nil {
		return nil, err
	}
	return issuance.New(issuance.Config{
		Database: p.core.store, Accounts: issuance.NewLedger(p.core.store, p.core.sealer.Group, time.Now), Groups: p.core.groups,
		Writer: p.core.config, Gateways: p.registry, Rollouts: p.rollouts, Egress: rules, Woken: woken, Now: time.Now, Log: p.log,
	}), nil
}

// issuanceJob has it looked for certificates that are to be issued, on one replica at a time.
func (p *plane) issuanceJob() jobs.Job {
	run := func(ctx context.Context) error { return p.issuance.Run(ctx) }
	return jobs.Job{Name: "certificate-issuance", Every: issuance.Every, Timeout: issuance.Timeout, Run: run}
}
