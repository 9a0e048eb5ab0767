package secretsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/run"
	"keyward.dev/shared/secret"
	"keyward.dev/shared/settings"
)

// What a provider does if its setting says nothing else.
const (
	DefaultRefresh = time.Minute
	DefaultStale   = 24 * time.Hour
)

// Bounds of what a setting may say.
const (
	minRefresh = time.Second
	maxRefresh = 24 * time.Hour
	maxStale   = 30 * 24 * time.Hour
)

// source reads values from one place.
type source interface {
	// check says why a reference cannot be read from here whatever is here, empty if it can.
	check(r secret.Reference) string
	// read answers a value. An error that is errDown holds for everything from here.
	read(ctx context.Context, q question) (string, error)
}

// question is what a source is asked.
type question struct {
	reference secret.Reference
	// names are those that the certificate shall be for, and held what was read before, if anything was: for sources that issue.
	names []string
	held  *configv1.CertificateVersion
	now   time.Time
	// answers are those of the run, and of is the provider that is asked; beside are the records of all that is read of that place.
	answers *answers
	of      *Provider
	beside  []*systemv1.ResolvedSecret
	// kept is what was read before for anything but a certificate, and certificate says that it is for one.
	kept        *systemv1.ResolvedSecret
	certificate bool
	// leased takes note of what the answer was made under.
	leased func(l *systemv1.SecretLease)
}

var (
	errDown    = errors.New("the source does not answer")
	errNothing = errors.New("there is nothing there")

	errNoText    = errors.New("it is not a string")
	errNoObject  = errors.New("it is not a JSON object, of which a field could be taken")
	errNoNames   = errors.New("the certificate has no snis, for which one could be issued")
	errNoKey     = errors.New("it makes logins, and no private keys")
	errNotIssued = errors.New("what was issued has no certificate and private key")
)

// Provider is a place from which references are read: of some groups, if the operator has set it up, or of the one group in
// which a tenant made it.
type Provider struct {
	name, scheme string
	// groups that it is for; nil for one that a tenant made.
	groups map[string]bool
	tenant bool
	// issues says that each reading gives something new, which is kept for most of its life.
	issues         bool
	refresh, stale time.Duration
	source         source
	// logins, if it is not nil, is who makes what is read, and gives it back.
	logins *logins
	// run, if it is not nil, has to run while the provider is used.
	run func(ctx context.Context, log *slog.Logger) error
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	errForm  = errors.New("is not of the form NAME=file:/ROOT?groups=…, NAME=env:PREFIX_?groups=…, NAME=vault:https://HOST:PORT/MOUNT?groups=… or NAME=aws:REGION?groups=…")
)

// Parse reads the setting of a provider. Its errors do not quote the text beyond the name.
func Parse(text string, lookup settings.Lookup) (*Provider, error) {
	name, rest, ok := strings.Cut(text, "=")
	scheme, place, colon := strings.Cut(rest, ":")
	if !ok || !colon || !nameForm.MatchString(name) {
		return nil, errForm
	}
	p := &Provider{name: name, scheme: scheme}
	parameters, err := p.open(place, lookup)
	if err == nil {
		err = p.take(parameters)
	}
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	return p, nil
}

// open makes the source and answers the parameters that are left.
func (p *Provider) open(place string, lookup settings.Lookup) (vaulturi.Values, error) {
	if p.scheme == secretplace.Vault {
		return p.openVault(place, lookup)
	}
	place, query, _ := strings.Cut(place, "?")
	parameters, err := vaulturi.ParseValues(query)
	if err != nil {
		return nil, err
	}
	switch p.scheme {
	case "file":
		p.source, err = newFiles(place)
	case "env":
		p.source, err = newVariables(place, lookup)
	case secretplace.AWS:
		p.source, err = newManager(place, parameters)
	default:
		err = errForm
	}
	return parameters, err
}

// take reads the parameters that all providers have.
func (p *Provider) take(parameters vaulturi.Values) error {
	p.groups = map[string]bool{}
	for group := range strings.SplitSeq(parameters.Take("groups"), ",") {
		if !catalog.ValidName(group) {
			return errors.New("needs the names of the groups that may use it: groups=a,b")
		}
		p.groups[group] = true
	}
	var err error
	if p.refresh, err = duration(parameters, "refresh", DefaultRefresh, minRefresh, maxRefresh); err != nil {
		return err
	}
	if p.stale, err = duration(parameters, "stale", max(DefaultStale, p.refresh), p.refresh, maxStale); err != nil {
		return err
	}
	return parameters.Check()
}

func duration(parameters vaulturi.Values, name string, value, least, most time.Duration) (time.Duration, error) {
	text := parameters.Take(name)
	if text == "" {
		return value, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("%s must be a duration from %s to %s", name, least, most)
	}
	return d, nil
}

// Providers are all providers of a control plane. The zero value has none.
type Providers struct{ list []*Provider }

// Open reads the settings of all providers.
func Open(texts []string, lookup settings.Lookup) (*Providers, error) {
	ps := &Providers{}
	var faults []error
	for _, text := range texts {
		p, err := Parse(text, lookup)
		if err == nil && ps.named(p.name) != nil {
			err = fmt.Errorf("provider %s: is there twice", p.name)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		ps.list = append(ps.list, p)
	}
	return ps, errors.Join(faults...)
}

func (ps *Providers) named(name string) *Provider {
	for _, p := range ps.list {
		if p.name == name {
			return p
		}
	}
	return nil
}

// For answers what a group may refer to of what the operator has set up, for admission. What exists for others only does not
// exist for it.
func (ps *Providers) For(group string) admission.Secrets { return given{ps, group} }

// given are the providers of a group that the operator has set up.
type given struct {
	all   *Providers
	group string
}

// Has implements admission.Secrets.
func (g given) Has(name string) bool {
	p := g.all.named(name)
	return p != nil && p.groups[g.group]
}

// Check implements admission.Secrets.
func (g given) Check(r secret.Reference) string {
	if r.Scheme == secret.PathScheme {
		_, reason := g.all.root(g.group, r)
		return reason
	}
	if p := g.all.named(r.Provider); g.Has(r.Provider) && p.scheme == r.Scheme {
		return p.source.check(r)
	}
	return secretplace.Unknown(r)
}

// find answers the provider of a reference of a group, or why there is none: the operator's, or else one of those that tenants
// made in the group.
func (ps *Providers) find(group string, made map[string]*Provider, r secret.Reference) (*Provider, string) {
	if r.Scheme == secret.PathScheme {
		return ps.root(group, r)
	}
	p := ps.named(r.Provider)
	if p == nil || !p.groups[group] {
		p = made[r.Provider]
	}
	if p == nil || p.scheme != r.Scheme {
		return nil, secretplace.Unknown(r)
	}
	return p, p.source.check(r)
}

// tick is how often there is something to do, so that nothing is read later than its refresh interval says.
func (ps *Providers) tick() time.Duration {
	const least, most = time.Second, 15 * time.Second
	every := most
	for _, p := range ps.list {
		every = min(every, p.refresh/4)
	}
	return max(every.Truncate(time.Second), least)
}

// Run keeps the providers logged in where that is needed, until ctx ends.
func (ps *Providers) Run(ctx context.Context, log *slog.Logger) error {
	var tasks []run.Task
	for _, p := range ps.list {
		if p.run != nil {
			tasks = append(tasks, func(ctx context.Context) error { return p.run(ctx, log.With("secret_provider", p.name)) })
		}
	}
	return run.Group(ctx, tasks...)
}
