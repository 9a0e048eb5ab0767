// Package get is `keyward get`: it reads resources. Secrets are never among what it prints; the control plane does not
// give them out.
package get

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// pageSize is the most the control plane gives at once.
const pageSize = 1000

// Options of one run.
type Options struct {
	Factory *factory.Factory

	Kind, Name  string
	Selector    string
	MinRevision int64
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "Show resources",
		Long: `Show one resource, or all of a kind.

Credentials are named CONSUMER/NAME; CONSUMER/ shows all of that consumer. Settings have no name.`,
		Example: `  keyward get routes
  keyward get route hello -o yaml
  keyward get credentials alice/
  keyward get consumers -l team=payments -o json`,
		Args:              factory.Args("KIND [NAME]"),
		ValidArgsFunction: f.CompleteKind,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Kind = args[0]
			if len(args) > 1 {
				opts.Name = args[1]
			}
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Run(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVarP(&opts.Selector, "selector", "l", "", "labels, e.g. key=value,other!=value,present")
	cmd.Flags().Int64Var(&opts.MinRevision, "min-revision", 0, "wait until the answering replica has this revision")
	return cmd
}

// Run reads and prints.
func Run(ctx context.Context, o *Options) error {
	ref, err := o.Factory.Ref(o.Kind, o.Name)
	if err != nil {
		return err
	}
	if ref.Kind.Parent != "" && ref.Parent == "" {
		return failure.Usagef("say whose: keyward get %s CONSUMER/", ref.Kind.Name)
	}
	one := ref.Name != "" || ref.Kind.Singleton
	if one && o.Selector != "" {
		return failure.Usagef("a selector chooses among all of a kind; leave the name out")
	}
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	c := adminv1.NewResourceServiceClient(conn)
	if one {
		return o.one(ctx, c, ref)
	}
	return o.list(ctx, c, ref)
}

func (o *Options) one(ctx context.Context, c adminv1.ResourceServiceClient, ref factory.Ref) error {
	res, err := c.Get(ctx, &adminv1.GetRequest{
		Group: o.Factory.Group(), Kind: ref.Kind.Name, Parent: ref.Parent, Name: ref.Name, MinRevision: o.MinRevision,
	})
	if err != nil {
		return fmt.Errorf("get %s %s: %w", ref.Kind.Singular, o.Name, err)
	}
	m, err := res.GetResource().UnmarshalNew()
	if err != nil {
		return fmt.Errorf("get %s %s: %w", ref.Kind.Singular, o.Name, err)
	}
	// One resource on a terminal is read whole, as it would be written.
	return o.Factory.Print(m, func() error {
		p, err := o.Factory.Printer()
		if err != nil {
			return err
		}
		return p.Message(o.Factory.IO.Out, render.YAML, m)
	})
}

func (o *Options) list(ctx context.Context, c adminv1.ResourceServiceClient, ref factory.Ref) error {
	var all []proto.Message
	for page := ""; ; {
		res, err := c.List(ctx, &adminv1.ListRequest{
			Group: o.Factory.Group(), Kind: ref.Kind.Name, Parent: ref.Parent, PageSize: pageSize, PageToken: page,
			Selector: o.Selector, MinRevision: o.MinRevision,
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", ref.Kind.Name, err)
		}
		for _, r := range res.GetResources() {
			m, err := r.UnmarshalNew()
			if err != nil {
				return fmt.Errorf("list %s: %w", ref.Kind.Name, err)
			}
			all = append(all, m)
		}
		if page = res.GetNextPageToken(); page == "" {
			break
		}
	}
	return o.Factory.PrintList(all, func() error {
		if len(all) == 0 {
			o.Factory.IO.Say("no %s in group %s", ref.Kind.Name, o.Factory.Group())
			return nil
		}
		return table(o.Factory, ref.Kind, all)
	})
}
