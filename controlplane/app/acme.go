package app

import (
	"context"
	"flag"
	"time"

	"keyward.dev/controlplane/internal/issuance"
	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/shared/settings"
)

// Acme says how certificates are issued by ACME authorities, which groups choose.
type Acme struct {
	Networks []string
}

// Flags declares the settings.
func (a *Acme) Flags(fs *flag.FlagSet) {
	settings.WordsVar(fs, &a.Networks, "acme-network", "`CIDR` in which ACME authorities may be beside public addresses, for the issuers of all groups. May be repeated")
}

func (a *Acme) check(faults *settings.Faults) {
	_, err := issuance.ParseNetworks(a.Networks)
	faults.Add("acme-network", err)
}

// newIssuance needs the registry, which knows the gateways.
func (p *plane) newIssuance(woken *issuance.Inbox) (*issuance.Service, error) {
	networks, err := issuance.ParseNetworks(p.settings.Acme.Networks)
	if err != nil {
		return nil, err
	}
	return issuance.New(issuance.Config{
		Database: p.core.store, Accounts: issuance.NewLedger(p.core.store, p.core.sealer.Group, time.Now), Groups: p.core.groups,
		Writer: p.core.config, Gateways: p.registry, Rollouts: p.rollouts, Networks: networks, Woken: woken, Now: time.Now, Log: p.log,
	}), nil
}

// issuanceJob has it looked for certificates that are to be issued, on one replica at a time.
func (p *plane) issuanceJob() jobs.Job {
	run := func(ctx context.Context) error { return p.issuance.Run(ctx) }
	return jobs.Job{Name: "certificate-issuance", Every: issuance.Every, Timeout: issuance.Timeout, Run: run}
}
