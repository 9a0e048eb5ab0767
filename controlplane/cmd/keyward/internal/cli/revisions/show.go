package revisions

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/difference"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// ShowOptions are the options of one run of show.
type ShowOptions struct {
	Factory *factory.Factory

	Revision int64
}

func newShow(f *factory.Factory, run func(context.Context, *ShowOptions) error) *cobra.Command {
	opts := &ShowOptions{Factory: f}
	return &cobra.Command{
		Use:   "show REV",
		Short: "Show what a revision changed",
		Long: `Show what a revision changed, line by line. Secrets are not shown; a resource of which only a secret
changed is named.`,
		Example: "  keyward revisions show 42",
		Args:    factory.Args("REV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if opts.Revision, err = strconv.ParseInt(args[0], 10, 64); err != nil || opts.Revision < 1 {
				return failure.Usagef("%q is no revision; give its number", args[0])
			}
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Show(cmd.Context(), opts)
		},
	}
}

// Show shows one revision.
func Show(ctx context.Context, o *ShowOptions) error {
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).GetRevision(ctx, &adminv1.GetRevisionRequest{
		Group: o.Factory.Group(), Revision: o.Revision,
	})
	if err != nil {
		return failure.DefaultHint(fmt.Errorf("show revision %d: %w", o.Revision, err), "keyward revisions lists those there are")
	}
	io := o.Factory.IO
	difference.Warn(io, res.GetWarnings())
	return o.Factory.Print(res, func() error {
		r := res.GetRevision()
		io.Say("revision %d, %s, by %s: %s", r.GetRevision(), render.Time(r.GetAt()), render.Or(r.GetActor(), "-"), r.GetSummary())
		return difference.Print(o.Factory, res.GetChanges())
	})
}
