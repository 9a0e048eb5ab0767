package app

import (
	"context"
	"flag"
	"time"

	"keyward.dev/controlplane/internal/certstatus"
	"keyward.dev/controlplane/internal/credentialstore"
	"keyward.dev/controlplane/internal/expiry"
	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/controlplane/internal/retention"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/settings"
)

// Retention says what of the past is kept.
type Retention struct {
	HistoryKeep   int64
	HistoryMaxAge time.Duration
	Interval      time.Duration
}

// Flags declares the settings.
func (r *Retention) Flags(fs *flag.FlagSet) {
	fs.Int64Var(&r.HistoryKeep, "history-keep", 10000, "how many revisions of a group are kept, however old; at least 256")
	fs.DurationVar(&r.HistoryMaxAge, "history-max-age", 90*24*time.Hour, "until which age all revisions are kept, however many; 0: for ever")
	fs.DurationVar(&r.Interval, "retention-interval", 10*time.Minute, "how often what is kept no longer is looked for")
}

func (r *Retention) check(faults *settings.Faults) {
	if r.HistoryKeep < retention.MinKeep {
		faults.Addf("history-keep", "must be at least %d: as many as gateways that reconnect may need", retention.MinKeep)
	}
	if r.HistoryMaxAge < 0 {
		faults.Addf("history-max-age", "must not be negative")
	}
	if r.Interval < time.Second || r.Interval > 24*time.Hour {
		faults.Addf("retention-interval", "must be between 1s and 24h")
	}
}

// certificateWatch is how often certificates are looked at.
const certificateWatch = time.Hour

// vault opens what is stored of a group.
func (p *plane) vault(ctx context.Context, group string) (expiry.Vault, error) {
	return p.core.sealer.Group(ctx, group)
}

// background is the work that is done once for all replicas.
func (p *plane) background() (*jobs.Runner, error) {
	keep := p.settings.Retention
	past := retention.New(retention.Config{
		Database: p.core.store, Unlock: p.core.sealer.Group, Keep: keep.HistoryKeep, MaxAge: keep.HistoryMaxAge, Log: p.log,
		Needed: p.lowest,
	})
	ends := expiry.New(expiry.Config{
		Database: p.core.store, Unlock: p.vault, Every: certificateWatch, Now: time.Now, Log: p.log,
	})
	work := []jobs.Job{
		{Name: "certificate-expiry", Every: certificateWatch, Timeout: 10 * time.Minute, Run: ends.Run},
		{Name: "history-retention", Every: keep.Interval, Timeout: 10 * time.Minute, Run: past.Run},
		p.rotationJob(),
		p.ticketJob(),
		{Name: "secret-references", Every: p.secrets.Every(), Timeout: secretsource.Timeout, Run: p.secrets.Run},
		{Name: "credential-stores", Every: credentialstore.Every, Timeout: credentialstore.Timeout, Run: p.stores.Run},
		{Name: "certificate-status", Every: certstatus.Every, Timeout: certstatus.Timeout, Run: p.statuses.Run},
		p.issuanceJob(),
		{Name: "authority-expiry", Every: 12 * time.Hour, Timeout: time.Minute, Run: func(ctx context.Context) error {
			p.ca.NoteExpiry(ctx)
			return nil
		}},
		{Name: "authority-renewal", Every: 10 * time.Minute, Timeout: time.Minute, Run: p.ca.Renew},
		// Also where no key is retired: the replica that leads has to put it into the queue for those that have one.
		p.keyrings.job(p.settings.Replica),
	}
	if p.settings.Bundles.wanted() {
		job, err := p.bundleJob()
		if err != nil {
			return nil, err
		}
		work = append(work, job)
	}
	return jobs.New(jobs.Config{Pool: p.core.store.Pool(), Log: p.log, Jobs: work})
}

// lowest is the earliest revision that a staged group's gateways are to run; 0: nothing holds changes back.
func (p *plane) lowest(ctx context.Context, group string) (int64, error) {
	state, err := p.rollouts.State(ctx, group)
	if err != nil || state == nil {
		return 0, err
	}
	return state.Lowest(), nil
}
