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

// Restore declares what the database holds to be the truth, after it was restored or after a fail-over that lost changes.
// It can run again and again: a group about which nothing is amiss is left alone.
type Restore struct {
	Database Database
	KEK      KEK
	Log      telemetry.LogOptions
	Group    string
	Force    bool
}

// Flags declares the settings.
func (r *Restore) Flags(fs *flag.FlagSet) {
	r.Database.Flags(fs)
	r.KEK.Flags(fs)
	r.Log.Flags(fs)
	fs.StringVar(&r.Group, "group", "", "only this `group`; without it all")
	fs.BoolVar(&r.Force, "force", false, "also where no gateway has reported a later revision; every gateway then takes the whole set")
}

// Check names everything that is wrong.
func (r *Restore) Check() error {
	var faults settings.Faults
	r.Database.Check(&faults)
	r.KEK.Check(&faults)
	return faults.Err()
}

const restoreName = "restore"

// Run begins a new epoch where it is needed, and says of each group what it did. One group that fails does not keep the
// others from it.
func (r *Restore) Run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	keys, err := r.KEK.open()
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
