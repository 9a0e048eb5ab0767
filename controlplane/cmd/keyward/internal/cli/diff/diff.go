// Package diff is `keyward diff`: what applying a document would change, or what changed between two revisions. The
// control plane compares, so defaults and short forms make no difference; secrets are shown to change, never shown.
package diff

import (
	"context"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/difference"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/stream"
	"keyward.dev/controlplane/cmd/keyward/internal/document"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Options of one run.
type Options struct {
	Factory *factory.Factory

	File     string
	Between  *Range
	Prune    bool
	ExitCode bool
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "diff (-f FILE | REV..[REV])",
		Short: "Show what applying a document would change, or what changed between revisions",
		Long: `Show what applying a document would change, or, given REV..REV, what changed from one revision to
another on balance; REV.. compares with the newest. Nothing is printed if nothing differs.

Comparing with a document takes the right to apply, comparing revisions that to read. Secrets are not shown; a resource of
which only a secret changes is named.`,
		Example: `  keyward diff -f gateway.yaml
  keyward diff -f config/ --prune --exit-code || echo out of date
  keyward diff 41..43
  keyward diff 41..`,
		Args: factory.Args("[REV..REV]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(args); err != nil {
				return err
			}
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Run(cmd.Context(), opts)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&opts.File, "file", "f", "", "file, directory of .yaml, .yml and .json files, or - for stdin")
	fs.BoolVar(&opts.Prune, "prune", false, "also show what apply --prune would remove")
	fs.BoolVar(&opts.ExitCode, "exit-code", false, "exit with 1 if something differs")
	return cmd
}

func (o *Options) check(args []string) error {
	switch {
	case len(args) == 0 && o.File == "":
		return failure.Usagef("say which document with -f FILE (- for stdin), or which revisions as REV..REV")
	case len(args) == 0:
		return nil
	case o.File != "" || o.Prune:
		return failure.Usagef("-f and --prune are about a document; leave them out to compare revisions")
	}
	r, err := parse(args[0])
	o.Between = r
	return err
}

// Run compares and prints.
func Run(ctx context.Context, o *Options) error {
	if o.Between != nil {
		return o.revisions(ctx)
	}
	doc, err := document.Read(o.File, o.Factory.IO.In)
	if err != nil {
		return err
	}
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	res, err := stream.Apply(ctx, adminv1.NewResourceServiceClient(conn), doc, &adminv1.ApplyHeader{
		Group: o.Factory.GroupOf(doc.Group()), DryRun: true, Prune: o.Prune, ContentType: doc.ContentType,
	})
	if err != nil {
		return err
	}
	if err := o.Factory.Print(res, func() error { return difference.Print(o.Factory, res.GetChanges()) }); err != nil {
		return err
	}
	return o.exit(len(res.GetChanges()))
}

func (o *Options) exit(differences int) error {
	if o.ExitCode && differences > 0 {
		return failure.Exit(failure.Failed)
	}
	return nil
}
