package app

import (
	"flag"
	"log/slog"
	"os"
	"time"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/credentialstore"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/settings"
)

// Secrets says where the values of secret references come from.
type Secrets struct {
	Providers []string
	// Roots are folders below which groups may name files as certificates.
	Roots []string
	// Lookup finds environment variables; nil: os.LookupEnv.
	Lookup settings.Lookup
}

// Flags declares the settings.
func (s *Secrets) Flags(fs *flag.FlagSet) {
	settings.WordsVar(fs, &s.Providers, "secret-provider", "where groups may have secrets read from, `NAME=PLACE?groups=a,b`; a place is file:/ROOT, env:PREFIX_ or vault:https://HOST:PORT/MOUNT or aws:REGION. May be repeated")
	settings.WordsVar(fs, &s.Roots, "certificate-root", "`/FOLDER?groups=a,b` below which these groups may name files of the control plane as certificates and private keys. May be repeated; none: no files")
}

func (s *Secrets) check(faults *settings.Faults) {
	providers, err := s.open()
	faults.Add("secret-provider", err)
	if err == nil {
		faults.Add("certificate-root", providers.AddRoots(s.Roots))
	}
}

// open reads the settings; no source is asked yet.
func (s *Secrets) open() (*secretsource.Providers, error) {
	lookup := s.Lookup
	if lookup == nil {
		lookup = os.LookupEnv
	}
	return secretsource.Open(s.Providers, lookup)
}

// references is what the write path needs to know of secrets that are kept elsewhere. The zero value knows none.
type references struct {
	providers *secretsource.Providers
	referred  *inbox.Inbox
	egress    *egress.Rules
	secrets   func(group string) admission.Secrets
	referring func(group string)
	// stores are the groups with new credential stores.
	stores *inbox.Inbox
	// orders are the groups of which what ACME authorities issue has changed.
	orders   *inbox.Inbox
	ordering func(group string)
}

func (s *Settings) references() (references, error) {
	providers, err := s.Secrets.open()
	if err != nil {
		return references{}, err
	}
	if err := providers.AddRoots(s.Secrets.Roots); err != nil {
		return references{}, err
	}
	rules, err := s.Tenants.egress()
	if err != nil {
		return references{}, err
	}
	referred, stores, orders := inbox.New(), inbox.New(), inbox.New()
	return references{
		providers: providers, egress: rules, referred: referred, secrets: providers.For,
		referring: func(group string) { referred.Wake(group); stores.Wake(group) },
		stores:    stores, orders: orders, ordering: orders.Wake,
	}, nil
}

func (r references) resolver(c *core, log *slog.Logger) *secretsource.Resolver {
	return secretsource.New(secretsource.Config{
		Providers: r.providers, Egress: r.egress, Database: c.store, Groups: c.groups, Writer: c.config, Woken: r.referred, Now: time.Now, Log: log,
	})
}

// storeKeeper reads credential stores, from the providers that the resolver has.
func (r references) storeKeeper(c *core, resolver *secretsource.Resolver, log *slog.Logger) *credentialstore.Keeper {
	return credentialstore.New(credentialstore.Config{
		Database: c.store, Groups: c.groups, Places: credentialstore.Of(resolver), Writer: c.config, Woken: r.stores, Now: time.Now, Log: log,
	})
}
