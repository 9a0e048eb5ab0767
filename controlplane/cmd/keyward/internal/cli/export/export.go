// Package export is `keyward export`: a whole gateway group as the document that `keyward apply` takes. Secrets stay in
// the control plane; in their places stands `{set: true}`, which on apply means: keep what is stored.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// Options of one run.
type Options struct {
	Factory *factory.Factory

	MinRevision int64
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write a gateway group as a document",
		Long: `Write a gateway group to stdout as the document that keyward apply takes (-o yaml, the default, or json).

Secrets are not in it; in their places stands {set: true}, which on apply means: keep what is stored.`,
		Example: `  keyward export > group.yaml
  keyward export -g payments -o json | jq .routes`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Run(cmd.Context(), opts)
		},
	}
	cmd.Flags().Int64Var(&opts.MinRevision, "min-revision", 0, "wait until the answering replica has this revision")
	return cmd
}

// Run writes the document as it comes.
func Run(ctx context.Context, o *Options) error {
	format, err := o.Factory.Format(render.YAML)
	if err != nil {
		return err
	}
	if format == render.Table {
		return failure.Usagef("a document is yaml or json")
	}
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	s, err := adminv1.NewResourceServiceClient(conn).Export(ctx, &adminv1.ExportRequest{
		Group: o.Factory.Group(), ContentType: "application/" + string(format), MinRevision: o.MinRevision,
	})
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for {
		piece, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		if _, err := o.Factory.IO.Out.Write(piece.GetChunk()); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
}
