// Package revisions is `keyward revisions`: the committed change sets of a gateway group, newest first.
package revisions

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// Options of one run.
type Options struct {
	Factory *factory.Factory

	Limit int32
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "revisions",
		Short: "List the change sets of a gateway group",
		Example: `  keyward revisions
  keyward revisions show 42`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Limit < 1 {
				return failure.Usagef("--limit must be at least 1")
			}
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Run(cmd.Context(), opts)
		},
	}
	cmd.AddCommand(newShow(f, nil))
	cmd.Flags().Int32Var(&opts.Limit, "limit", 30, "at most this many")
	return cmd
}

// Run lists.
func Run(ctx context.Context, o *Options) error {
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	c := adminv1.NewResourceServiceClient(conn)
	var all []*adminv1.Revision
	for page := ""; ; {
		res, err := c.ListRevisions(ctx, &adminv1.ListRevisionsRequest{
			Group: o.Factory.Group(), PageSize: o.Limit - int32(len(all)), PageToken: page,
		})
		if err != nil {
			return fmt.Errorf("list revisions: %w", err)
		}
		all = append(all, res.GetRevisions()...)
		page = res.GetNextPageToken()
		if page == "" || int32(len(all)) >= o.Limit {
			break
		}
	}
	return o.Factory.PrintList(render.Messages(all), func() error {
		g := render.NewGrid(o.Factory.IO, "REVISION", "AT", "BY", "WHAT")
		for _, r := range all {
			g.Add(strconv.FormatInt(r.GetRevision(), 10), render.Time(r.GetAt()), render.Or(r.GetActor(), "-"), r.GetSummary())
		}
		return g.Print()
	})
}
