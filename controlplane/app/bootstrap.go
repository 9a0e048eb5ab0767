package app

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Bootstrap makes an installation in a migrated database: the system keyring, the certificate authority, the first group
// and the first admin token. What is there already is left alone, so it can run again and again.
type Bootstrap struct {
	Database    Database
	KEK         KEK
	Log         telemetry.LogOptions
	Group       string
	Token       settings.Secret
	TrustDomain string
}

// Flags declares the settings.
func (b *Bootstrap) Flags(fs *flag.FlagSet) {
	b.Database.Flags(fs)
	b.KEK.Flags(fs)
	b.Log.Flags(fs)
	fs.StringVar(&b.Group, "group", "default", "first gateway `group`")
	fs.StringVar(&b.TrustDomain, "trust-domain", "keyward.local", "SPIFFE trust `domain` of this installation; cannot change later")
	settings.VaultSecretVar(fs, &b.Token, "token", "first admin token, of the form kwa_<12>_<32 letters and digits>; without it one is made and shown once")
}

// Check names everything that is wrong.
func (b *Bootstrap) Check() error {
	var faults settings.Faults
	b.Database.Check(&faults)
	b.KEK.Check(&faults)
	if b.Group == "" {
		faults.Addf("group", "must not be empty")
	}
	checkSecret(&faults, "token", b.Token)
	if b.Token.Reveal() != "" {
		if _, err := adminauth.Adopt(bootstrapName, b.Token.Reveal(), nil); err != nil {
			faults.Add("token", err)
		}
	}
	return faults.Err()
}

const bootstrapName = "bootstrap"

// answer is what Bootstrap prints.
type answer struct {
	// Token is the admin token, only in the run that made it.
	Token string `json:"token,omitempty"`
	// TrustBundle is what gateways pin (PEM).
	TrustBundle string `json:"trust_bundle"`
	Group       string `json:"group"`
}

// Run makes what is missing and prints one JSON object.
func (b *Bootstrap) Run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	var err error
	if b.Token, err = b.Database.places.settled(ctx, "token", b.Token); err != nil {
		return err
	}
	keys, err := b.KEK.opened(ctx)
	if err != nil {
		return err
	}
	core, err := openCore(ctx, b.Database, keys.Keys, references{}, log)
	if err != nil {
		return err
	}
	defer core.store.Close()
	if _, err := core.sealer.Init(ctx, bootstrapName, time.Now()); err != nil {
		return fmt.Errorf("make system keyring: %w", err)
	}
	ca, err := openCA(ctx, core, pki.Config{TrustDomain: b.TrustDomain, Replica: bootstrapName, Log: log})
	if err != nil {
		return err
	}
	if err := b.group(ctx, core); err != nil {
		return err
	}
	text, err := b.token(ctx, core, log)
	if err != nil {
		return err
	}
	a := answer{Token: text, Group: b.Group}
	for _, der := range ca.Trust().Roots {
		a.TrustBundle += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return json.NewEncoder(out).Encode(a)
}

func (b *Bootstrap) group(ctx context.Context, core *core) error {
	if _, err := core.store.Group(ctx, b.Group); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	err := core.config.CreateGroup(ctx, bootstrapName, b.Group, "")
	if err != nil && problem.Of(err).Code == problem.Conflict {
		return nil // somebody else was first
	}
	return err
}

// token makes the first admin token. A token that was handed in is taken whenever it is not known yet, so that it can be
// exchanged by mounting another; one is made up only if there is none at all.
func (b *Bootstrap) token(ctx context.Context, core *core, log *slog.Logger) (string, error) {
	tokens := &adminTokens{store: core.store, sealer: core.sealer, now: time.Now, log: log}
	known, err := tokens.AdminTokens(ctx)
	if err != nil {
		return "", err
	}
	all := []adminauth.Grant{{Group: adminauth.Everywhere, Role: optionsv1.Role_ROLE_ADMIN}}
	if b.Token.IsSet() {
		t, err := adminauth.Adopt(bootstrapName, b.Token.Reveal(), all)
		if err != nil {
			return "", err
		}
		for _, k := range known {
			if k.ID == t.ID {
				return "", nil
			}
		}
		t.CreatedAt = time.Now()
		err = tokens.CreateAdminToken(ctx, bootstrapName, t)
		if errors.Is(err, store.ErrConflict) { // its id was used: a deleted token stays deleted
			log.WarnContext(ctx, "the token that was handed in has been deleted and stays so; mount another one", "token", t.ID)
			return "", nil
		}
		return "", err
	}
	if len(known) > 0 {
		return "", nil
	}
	t, text, err := adminauth.Issue(bootstrapName, all)
	if err != nil {
		return "", err
	}
	t.CreatedAt = time.Now()
	return text, tokens.CreateAdminToken(ctx, bootstrapName, t)
}

// openCA opens the certificate authority, and makes it in an installation that has none.
func openCA(ctx context.Context, core *core, cfg pki.Config) (*pki.CA, error) {
	system, err := core.sealer.System(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNotBootstrapped
	}
	if err != nil {
		return nil, err
	}
	cfg.Authorities = authorities{Store: core.store, system: system, actor: cfg.Replica}
	cfg.Sealer = system
	return pki.Open(ctx, cfg)
}
