// Package remove is `keyward delete`: it removes one resource. What others use is not removed; the control plane says who
// they are.
package remove

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Options of one run.
type Options struct {
	Factory *factory.Factory

	Kind, Name string
	IfMatch    string
	DryRun     bool
	Immediate  bool
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "delete KIND NAME",
		Short: "Remove a resource",
		Long:  "Remove a resource. It is refused while others use it. Credentials are named CONSUMER/NAME.",
		Example: `  keyward delete route hello
  keyward delete credential alice/alice-1`,
		Args:              factory.Args("KIND NAME"),
		ValidArgsFunction: f.CompleteKind,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Kind, opts.Name = args[0], args[1]
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Run(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVar(&opts.IfMatch, "if-match", "", "only if the resource still has this etag")
	cmd.Flags().BoolVar(&opts.Immediate, "immediate", false, "send it, and all that is held back, to all gateways at once, whatever the settings say in rollout")
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "let the control plane check everything and store nothing")
	return cmd
}

// Run removes.
func Run(ctx context.Context, o *Options) error {
	ref, err := o.Factory.Ref(o.Kind, o.Name)
	if err != nil {
		return err
	}
	if ref.Kind.Singleton {
		return failure.Usagef("%s cannot be removed; apply a document that sets what you want", ref.Kind.Name)
	}
	if ref.Name == "" {
		return failure.Usagef("say which %s", ref.Kind.Singular)
	}
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).Delete(ctx, &adminv1.DeleteRequest{
		Group: o.Factory.Group(), Kind: ref.Kind.Name, Parent: ref.Parent, Name: ref.Name, IfMatch: o.IfMatch, DryRun: o.DryRun, Immediate: o.Immediate,
	})
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", ref.Kind.Singular, o.Name, err)
	}
	for _, w := range res.GetWarnings() {
		o.Factory.IO.Say("warning: %s: %s", w.GetPath(), w.GetMessage())
	}
	return o.Factory.Print(res, func() error {
		if o.DryRun {
			o.Factory.IO.Say("dry run: %s %s could be deleted", ref.Kind.Singular, o.Name)
			return nil
		}
		o.Factory.IO.Say("%s %s is deleted, at revision %d", ref.Kind.Singular, o.Name, res.GetRevision())
		return nil
	})
}
