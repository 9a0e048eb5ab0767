package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Restore puts a backup into a database, as its owner. Without a backup it declares what the database holds to be the truth,
// after it was restored by other means or after a fail-over that lost changes; it can then run again and again: a group about
// which nothing is amiss is left alone.
type Restore struct {
	Database Database
	KEK      KEK
	Log      telemetry.LogOptions
	Group    string
	Force    bool
	// In is the backup; what follows is for it alone.
	In              string
	Identity        string
	Replace         bool
	RuntimeRole     string
	RuntimePassword settings.Secret
	Output          string
}

// Flags declares the settings.
func (r *Restore) Flags(fs *flag.FlagSet) {
	r.Database.Flags(fs)
	r.KEK.Flags(fs)
	r.Log.Flags(fs)
	fs.StringVar(&r.In, "in", "", "`file` that backup wrote; without it the database stays, and what it holds is declared the truth")
	fs.StringVar(&r.Identity, "identity", "", "with --in: `file` with the recovery key; needed where the key-encryption key of the backup is not")
	fs.BoolVar(&r.Replace, "replace", false, "with --in: give up what is in the database, if it is not empty")
	fs.StringVar(&r.RuntimeRole, "runtime-role", "keyward_runtime", "with --in: `role` that `serve` connects as, as for `migrate`")
	settings.SecretVar(fs, &r.RuntimePassword, "runtime-password", "with --in: password of that role, set when it is made")
	outputFlag(fs, &r.Output)
	fs.StringVar(&r.Group, "group", "", "only this `group`; without it all")
	fs.BoolVar(&r.Force, "force", false, "also where no gateway has reported a later revision; every gateway then takes the whole set")
}

// Check names everything that is wrong.
func (r *Restore) Check() error {
	var faults settings.Faults
	r.Database.Check(&faults)
	r.KEK.Check(&faults)
	checkSecret(&faults, "runtime-password", r.RuntimePassword)
	checkOutput(&faults, r.Output)
	if r.In != "" {
		r.Database.checkOwner(&faults)
	}
	if r.In != "" && (r.Group != "" || r.Force) {
		faults.Addf("in", "brings all groups back, each in a new epoch: --group and --force do not go with it")
	}
	if r.In == "" && (r.Identity != "" || r.Replace || r.Output != outputText) {
		faults.Addf("in", "is needed for --identity, --replace and --output")
	}
	return faults.Err()
}

const restoreName = "restore"

// Run restores the backup, if there is one.
func (r *Restore) Run(ctx context.Context, out, terminal io.Writer, log *slog.Logger) error {
	if r.In != "" {
		return r.restoreBackup(ctx, out, terminal, log)
	}
	return r.declare(ctx, out, log)
}

// declare begins a new epoch where it is needed, and says of each group what it did. One group that fails does not keep the
// others from it.
func (r *Restore) declare(ctx context.Context, out io.Writer, log *slog.Logger) error {
	keys, err := r.KEK.opened(ctx)
	if err != nil {
		return err
	}
	core, err := openCore(ctx, r.Database, keys.Keys, references{}, log)
	if err != nil {
		return err
	}
	defer core.store.Close()
	groups := []string{r.Group}
	if r.Group == "" {
		if groups, err = names(ctx, core); err != nil {
			return err
		}
	}
	var errs []error
	for _, group := range groups {
		res, err := core.config.Restore(ctx, configsvc.RestoreRequest{Actor: restoreName, Group: group, Force: r.Force})
		if err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", group, err))
			continue
		}
		fmt.Fprintln(out, told(group, res))
	}
	return errors.Join(errs...)
}

func names(ctx context.Context, core *core) ([]string, error) {
	heads, err := core.store.Heads(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range heads {
		out = append(out, h.Group)
	}
	return out, nil
}

func told(group string, res configsvc.RestoreResult) string {
	switch {
	case !res.Began:
		return fmt.Sprintf("%s: nothing to do at revision %d: no gateway has reported a later one (--force does it all the same)", group, res.Revision)
	case res.Lost > 0:
		return fmt.Sprintf("%s: revision %d holds, in a new epoch; up to revision %d had been applied and is given up", group, res.Revision, res.Lost)
	default:
		return fmt.Sprintf("%s: revision %d holds, in a new epoch", group, res.Revision)
	}
}
