package app

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"

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
	settings.SecretVar(fs, &m.RuntimePassword, "runtime-password", "password of that role, set when it is made")
	fs.IntVar(&m.Down, "down", 0, "undo that many migrations instead; for development")
}

// Check names everything that is wrong.
func (m *Migrate) Check() error {
	var faults settings.Faults
	m.Database.Check(&faults)
	if m.Down < 0 {
		faults.Addf("down", "must not be negative")
	}
	return faults.Err()
}

// Run migrates.
func (m *Migrate) Run(ctx context.Context, log *slog.Logger) error {
	return store.Migrate(ctx, store.MigrateConfig{
		DSN: m.Database.URL.Reveal(), AllowInsecure: m.Database.Insecure,
		RuntimeRole: m.RuntimeRole, RuntimePassword: m.RuntimePassword.Reveal(), Down: m.Down, Log: log,
	})
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

// Run opens every group and says how each is.
func (c *CheckDB) Run(ctx context.Context, out io.Writer) error {
	core, err := openCore(ctx, c.Database, c.KEK, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer core.store.Close()
	heads, err := core.store.Heads(ctx)
	if err != nil {
		return err
	}
	bad := 0
	for _, h := range heads {
		view, err := core.groups.Fresh(ctx, h.Group)
		if err != nil {
			bad++
			fmt.Fprintf(out, "%s: %v\n", h.Group, err)
			continue
		}
		unreadable := 0
		for r := range view.Resources() {
			if r.Unreadable != "" {
				unreadable++
				fmt.Fprintf(out, "%s: %s %s (%s): %s\n", h.Group, r.Kind, r.Name, r.UID, r.Unreadable)
			}
		}
		if unreadable > 0 {
			bad++
			continue
		}
		fmt.Fprintf(out, "%s: ok, revision %d, %d records\n", h.Group, view.Revision, view.Len())
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d groups are damaged", bad, len(heads))
	}
	return nil
}
