package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Migrate brings the database to this program's schema.
type Migrate struct {
	Database        Database // as the owner
	RuntimeRole     string
	RuntimePassword settings.Secret
	Down            int
	Log             telemetry.LogOptions
}

// Flags declares the settings.
func (m *Migrate) Flags(fs *flag.FlagSet) {
	m.Database.Flags(fs)
	m.Log.Flags(fs)
	fs.StringVar(&m.RuntimeRole, "runtime-role", "keyward_runtime", "`role` that `serve` connects as; made if it is not there, and given the rights it needs")
	settings.VaultSecretVar(fs, &m.RuntimePassword, "runtime-password", "password of that role, set when it is made")
	fs.IntVar(&m.Down, "down", 0, "undo that many migrations instead; for development")
}

// Check names everything that is wrong.
func (m *Migrate) Check() error {
	var faults settings.Faults
	m.Database.Check(&faults)
	m.Database.checkOwner(&faults)
	checkSecret(&faults, "runtime-password", m.RuntimePassword)
	if m.Down < 0 {
		faults.Addf("down", "must not be negative")
	}
	return faults.Err()
}

// Run migrates.
func (m *Migrate) Run(ctx context.Context, log *slog.Logger) error {
	cfg, err := m.config(ctx, log)
	if err != nil {
		return err
	}
	return store.Migrate(ctx, cfg)
}

// config reads what the settings refer to.
func (m *Migrate) config(ctx context.Context, log *slog.Logger) (store.MigrateConfig, error) {
	db, err := m.Database.storeConfig(ctx, log)
	if err != nil {
		return store.MigrateConfig{}, err
	}
	password, err := m.Database.places.read(ctx, "runtime-password", m.RuntimePassword)
	if err != nil {
		return store.MigrateConfig{}, err
	}
	return store.MigrateConfig{
		DSN: db.DSN, Login: db.Login, AllowInsecure: db.AllowInsecure,
		RuntimeRole: m.RuntimeRole, RuntimePassword: password, Down: m.Down, Log: log,
		Parts: []store.Part{jobs.Schema()},
	}, nil
}

// CheckDB reports whether the database can be used: reached safely, at the right schema, and its keyrings opened with
// this key-encryption key.
type CheckDB struct {
	Database Database
	KEK      KEK
}

// Flags declares the settings.
func (c *CheckDB) Flags(fs *flag.FlagSet) {
	c.Database.Flags(fs)
	c.KEK.Flags(fs)
}

// Check names everything that is wrong.
func (c *CheckDB) Check() error {
	var faults settings.Faults
	c.Database.Check(&faults)
	c.KEK.Check(&faults)
	return faults.Err()
}

// Run opens every group and walks every audit chain, and says how each is, and which key-encryption key wraps whose keyring.
func (c *CheckDB) Run(ctx context.Context, out io.Writer) error {
	keys, err := c.KEK.opened(ctx)
	if err != nil {
		return err
	}
	core, err := openCore(ctx, c.Database, keys.Keys, references{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer core.store.Close()
	heads, err := core.store.Heads(ctx)
	if err != nil {
		return err
	}
	faults := slices.Concat(checkBundleKey(ctx, core, store.SystemGroup), checkAudit(ctx, core, store.SystemGroup))
	for _, h := range heads {
		found := slices.Concat(checkSet(ctx, core, h.Group), checkHistory(ctx, core, h.Group), checkRollout(ctx, core, h.Group),
			checkBundleKey(ctx, core, h.Group), checkAudit(ctx, core, h.Group))
		if len(found) == 0 {
			fmt.Fprintf(out, "%s: ok, revision %d\n", h.Group, h.Revision)
		}
		faults = append(faults, found...)
	}
	uses, err := core.sealer.KEKs(ctx)
	if err != nil {
		return err
	}
	for _, u := range uses {
		fmt.Fprintln(out, toldKEK(u))
	}
	for _, f := range faults {
		fmt.Fprintln(out, f)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d things do not verify", len(faults))
	}
	return nil
}

// checkSet names what of a group cannot be read.
func checkSet(ctx context.Context, core *core, group string) (faults []string) {
	view, err := core.groups.Fresh(ctx, group)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", group, err)}
	}
	for r := range view.Resources() {
		if r.Unreadable != "" {
			faults = append(faults, fmt.Sprintf("%s: %s %s (%s): %s", group, r.Kind, r.Name, r.UID, r.Unreadable))
		}
	}
	return faults
}

// checkHistory says whether the changes that are kept, and the baseline before them, lead to what the group holds.
func checkHistory(ctx context.Context, core *core, group string) []string {
	if _, err := core.history.At(ctx, group, history.Newest); err != nil {
		fault := fmt.Sprintf("%s: history: %v", group, err)
		if cause := errors.Unwrap(err); cause != nil {
			fault += ": " + cause.Error()
		}
		return []string{fault}
	}
	return nil
}

// checkRollout names a roll-out that was altered or put back.
func checkRollout(ctx context.Context, core *core, group string) []string {
	if _, err := rollout.NewLedger(core.store, core.sealer, time.Now).State(ctx, group); err != nil {
		return []string{fmt.Sprintf("%s: roll-out: %v", group, err)}
	}
	return nil
}

// checkBundleKey names a bundle key that was altered or exchanged; that of the system signs.
func checkBundleKey(ctx context.Context, core *core, group string) []string {
	if err := fallback.NewKeys(core.store, core.sealer, time.Now).Verify(ctx, group); err != nil {
		return []string{fmt.Sprintf("%s: bundle key: %v", group, err)}
	}
	return nil
}

// checkAudit names the first row of an audit chain that does not fit.
func checkAudit(ctx context.Context, core *core, group string) []string {
	report, err := auditLog{core.store, core.sealer}.VerifyAudit(ctx, group)
	switch {
	case err != nil:
		return []string{fmt.Sprintf("%s: audit chain: %v", group, err)}
	case !report.Intact:
		return []string{fmt.Sprintf("%s: audit chain, row %d: %s", group, report.FaultSeq, report.Fault)}
	default:
		return nil
	}
}
