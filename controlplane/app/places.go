package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"keyward.dev/controlplane/internal/vaultkv"
	"keyward.dev/controlplane/internal/vaultlease"
	"keyward.dev/shared/run"
	"keyward.dev/shared/settings"
)

// places are where secrets of our own settings are kept: files, variables and Vault. A nil one asks for each secret anew.
type places struct {
	lookup settings.Lookup
	mu     sync.Mutex
	vaults map[string]*vaultkv.Secret  // by location; guarded by mu
	leases map[string]*vaultlease.Held // by location without the field; guarded by mu
}

func newPlaces(lookup settings.Lookup) *places {
	return &places{lookup: lookup, vaults: map[string]*vaultkv.Secret{}, leases: map[string]*vaultlease.Held{}}
}

// checkSecret names what is wrong with where a secret is, without asking anybody.
func checkSecret(faults *settings.Faults, name string, s settings.Secret) {
	if leasedAt(s) != "" {
		faults.Addf(name, "is of what Vault makes and ends again, which can be database-user and database-password only")
		return
	}
	checkLeasable(faults, name, s)
}

// checkLeasable is checkSecret for one that may be made by Vault.
func checkLeasable(faults *settings.Faults, name string, s settings.Secret) {
	if at := s.Vault(); at != "" {
		_, err := newPlaces(os.LookupEnv).asked(at)
		faults.Add(name, err)
	}
}

// open makes the client for a secret in Vault, once.
func (p *places) open(at string) (*vaultkv.Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.vaults[at]; s != nil {
		return s, nil
	}
	s, err := vaultkv.Open(at, p.lookup)
	if err == nil {
		p.vaults[at] = s
	}
	return s, err
}

// read answers a secret as it is now. What cannot be read is an error, and never the text of a reference.
func (p *places) read(ctx context.Context, name string, s settings.Secret) (string, error) {
	if p == nil {
		p = newPlaces(os.LookupEnv)
	}
	at := s.Vault()
	if at == "" {
		again, err := s.Again()
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return again.Reveal(), nil
	}
	from, err := p.asked(at)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	text, err := from.read(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

// settled answers a secret as one that is read.
func (p *places) settled(ctx context.Context, name string, s settings.Secret) (settings.Secret, error) {
	if s.Vault() == "" {
		return s, nil
	}
	text, err := p.read(ctx, name, s)
	return settings.NewSecret(text), err
}

// run keeps the logins valid that are needed for secrets, until ctx ends.
func (p *places) run(ctx context.Context, log *slog.Logger, secrets ...settings.Secret) error {
	var tasks []run.Task
	running := map[*vaultlease.Held]bool{}
	for _, s := range secrets {
		if s.Vault() == "" {
			continue
		}
		from, err := p.asked(s.Vault())
		if err != nil {
			return err
		}
		if from.held != nil && running[from.held] {
			continue
		}
		running[from.held] = true
		tasks = append(tasks, func(ctx context.Context) error { return from.run(ctx, log) })
	}
	if len(tasks) == 0 {
		<-ctx.Done()
		return nil
	}
	return run.Group(ctx, tasks...)
}

// down reports whether a secret could not be read because who keeps it does not answer.
func down(err error) bool {
	return errors.Is(err, vaultkv.ErrDown) || errors.Is(err, vaultlease.ErrDown)
}
