// Package rollback is `keyward rollback`: it makes the resources of a gateway group what they were at an earlier revision.
// The control plane works out what that changes; a person is shown it and asked before anything is stored.
package rollback

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/difference"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Options of one run.
type Options struct {
	Factory *factory.Factory

	To          int64
	DryRun      bool
	Credentials bool
	Yes         bool
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "rollback --to REV",
		Short: "Make a gateway group what it was at a revision",
		Long: `Make the resources of a gateway group what they were at a revision: everything or nothing, in one new
revision. It is refused if what held then is not valid today.

Credentials stay as they are, because one that was deleted or replaced since may have been so for a reason; only those
whose consumer goes, go with it. --credentials brings them back too: deleted ones are valid again, newer ones are gone,
replaced keys are the old ones.

On a terminal it shows what will change and asks; without one it takes --yes.`,
		Example: `  keyward rollback --to 41 --dry-run
  keyward rollback --to 41
  keyward rollback --to 41 --credentials --yes`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return err
			}
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Run(cmd.Context(), opts)
		},
	}
	fs := cmd.Flags()
	fs.Int64Var(&opts.To, "to", 0, "revision whose resources shall hold again")
	fs.BoolVar(&opts.DryRun, "dry-run", false, "let the control plane check everything, show what would change and store nothing")
	fs.BoolVar(&opts.Credentials, "credentials", false, "bring credentials back too, those that were deleted since included")
	fs.BoolVar(&opts.Yes, "yes", false, "do not ask")
	return cmd
}

func (o *Options) check() error {
	switch {
	case o.To < 1:
		return failure.Usagef("say which revision with --to REV; keyward revisions lists them")
	case !o.DryRun && !o.Yes && !o.Factory.IO.InTTY:
		return failure.Usagef("nobody can be asked here; see what would change with --dry-run, then say --yes")
	}
	return nil
}

// Run shows, asks and rolls back.
func Run(ctx context.Context, o *Options) error {
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	client := adminv1.NewResourceServiceClient(conn)
	req := &adminv1.RollbackRequest{Group: o.Factory.Group(), To: o.To, IncludeCredentials: o.Credentials, DryRun: o.DryRun}
	if !o.DryRun && !o.Yes {
		goOn, err := o.confirm(ctx, client, req)
		if err != nil || !goOn {
			return err
		}
	}
	res, err := o.call(ctx, client, req)
	if err != nil {
		return err
	}
	return o.print(res)
}

// call asks the control plane.
func (o *Options) call(ctx context.Context, client adminv1.ResourceServiceClient, req *adminv1.RollbackRequest) (*adminv1.RollbackResponse, error) {
	res, err := client.Rollback(ctx, req)
	if err == nil {
		return res, nil
	}
	err = fmt.Errorf("roll back to revision %d: %w", o.To, err)
	switch failure.Code(err) {
	case failure.NotFound:
		return nil, failure.DefaultHint(err, "keyward revisions lists those there are")
	case failure.Conflict:
		return nil, failure.DefaultHint(err, "see what came in between with keyward diff %d.., then roll back again", req.GetIfRevision())
	}
	return nil, failure.DefaultHint(err, "keyward diff %d.. shows what has changed since", o.To)
}

func (o *Options) print(res *adminv1.RollbackResponse) error {
	io := o.Factory.IO
	difference.Warn(io, res.GetWarnings())
	return o.Factory.Print(res, func() error {
		show := func() error { return difference.Names(io, io.Out, res.GetChanges(), false) }
		if o.DryRun {
			show = func() error { return difference.Print(o.Factory, res.GetChanges()) }
		}
		if err := show(); err != nil {
			return err
		}
		switch {
		case !res.GetChanged():
			io.Say("nothing to change: group %s stays at revision %d", res.GetGroup(), res.GetRevision())
		case o.DryRun:
			io.Say("dry run: nothing was stored")
		default:
			io.Say("group %s is at revision %d, with the resources of revision %d", res.GetGroup(), res.GetRevision(), res.GetTo())
		}
		return nil
	})
}
