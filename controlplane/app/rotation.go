package app

import (
	"context"
	"flag"
	"time"

	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/controlplane/internal/rotation"
	"keyward.dev/shared/settings"
)

// Keyrings says when keyrings are rotated without anybody asking for it.
type Keyrings struct {
	MaxAge   time.Duration
	MaxSeals int64
}

// maxSeals is the number of messages up to which NIST SP 800-38D allows random nonces under one key. Here every message has
// a key of its own, so it is a habit kept, not a bound that is near.
const maxSeals = 1 << 32

// Flags declares the settings.
func (k *Keyrings) Flags(fs *flag.FlagSet) {
	fs.DurationVar(&k.MaxAge, "keyring-max-age", 365*24*time.Hour, "after which age a term of a keyring is followed by a new one; 0: never")
	fs.Int64Var(&k.MaxSeals, "keyring-max-seals", maxSeals, "after how many ciphertexts a term of a keyring is followed by a new one; 0: never")
}

func (k *Keyrings) check(faults *settings.Faults) {
	if k.MaxAge != 0 && k.MaxAge < time.Minute {
		faults.Addf("keyring-max-age", "must be 0 or at least 1m")
	}
	if k.MaxSeals < 0 {
		faults.Addf("keyring-max-seals", "must not be negative")
	}
}

func (p *plane) newKeeper() *rotation.Keeper {
	return rotation.New(rotation.Config{
		Store: p.core.store, Sealer: p.core.sealer, Replica: p.settings.Replica, MaxAge: p.settings.Keyrings.MaxAge,
		MaxSeals: p.settings.Keyrings.MaxSeals, Now: time.Now, Log: p.log,
	})
}

// rotationJob rotates keyrings that have to be.
func (p *plane) rotationJob() jobs.Job {
	return jobs.Job{Name: "keyring-rotation", Every: time.Minute, Timeout: 5 * time.Minute, Run: p.keeper.Force}
}

// runKeeper looks after the keyrings until ctx ends, and then says that nobody need wait for this replica.
func (p *plane) runKeeper(ctx context.Context) error {
	err := p.keeper.Run(ctx)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	p.keeper.End(bounded)
	return err
}
