package app

import (
	"flag"
	"time"

	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/controlplane/internal/ticketkeys"
	"keyward.dev/shared/settings"
)

// Tickets says how long keys of TLS session tickets are used.
type Tickets struct {
	Rotation time.Duration
}

// Flags declares the settings.
func (t *Tickets) Flags(fs *flag.FlagSet) {
	fs.DurationVar(&t.Rotation, "session-ticket-rotation", ticketkeys.DefaultPeriod, "how long gateways give TLS session tickets under one key, which opens them for twice as long after that")
}

func (t *Tickets) check(faults *settings.Faults) {
	if t.Rotation < 4*time.Second || t.Rotation > 7*24*time.Hour {
		faults.Addf("session-ticket-rotation", "must be between 4s and 168h")
	}
}

// settleTickets is how long it takes until all gateways are connected again that have lost a replica.
const settleTickets = 2 * time.Minute

// ticketJob looks after the keys of session tickets.
func (p *plane) ticketJob() jobs.Job {
	k := ticketkeys.New(ticketkeys.Config{
		Database: p.core.store, Gateways: p.registry, Groups: p.core.groups, Writer: p.core.config,
		Period: p.settings.Tickets.Rotation, Settle: settleTickets, Now: time.Now,
	})
	return jobs.Job{Name: "session-ticket-keys", Every: k.Every(), Timeout: ticketkeys.Timeout, Run: k.Run}
}
