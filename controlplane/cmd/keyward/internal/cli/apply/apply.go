// Package apply is `keyward apply`: it makes a gateway group look like the given documents and, if asked, waits until the
// gateways enforce that. The documents' bytes go to the control plane as they are; all judgement is there.
package apply

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/difference"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/stream"
	"keyward.dev/controlplane/cmd/keyward/internal/document"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// Options of one run.
type Options struct {
	Factory *factory.Factory

	File        string
	DryRun      bool
	Prune       bool
	Immediate   bool
	Wait        bool
	MinGateways int32
	Timeout     time.Duration
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make a gateway group look like a document",
		Long: `Make a gateway group look like a document: everything or nothing, in one revision.

Resources that the document does not have are left alone unless --prune is given. A document that
changes nothing makes no revision.`,
		Example: `  keyward apply -f gateway.yaml --wait
  keyward apply -f config/ --prune --dry-run
  generate | keyward apply -f -`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(cmd.Flags().Changed); err != nil {
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
	fs.BoolVar(&opts.DryRun, "dry-run", false, "let the control plane check everything and store nothing")
	fs.BoolVar(&opts.Prune, "prune", false, "remove resources that the document does not have")
	fs.BoolVar(&opts.Immediate, "immediate", false, "send it, and all that is held back, to all gateways at once, whatever the settings say in rollout")
	fs.BoolVar(&opts.Wait, "wait", false, "return when every connected gateway enforces it that gets it now")
	fs.Int32Var(&opts.MinGateways, "min-gateways", 0, "with --wait: until at least this many gateways do")
	fs.DurationVar(&opts.Timeout, "timeout", time.Minute, "with --wait: at most this long")
	return cmd
}

func (o *Options) check(changed func(string) bool) error {
	switch {
	case o.File == "":
		return failure.Usagef("say which document with -f FILE (- for stdin)")
	case o.DryRun && o.Wait:
		return failure.Usagef("--dry-run stores nothing, so there is nothing to --wait for")
	case !o.Wait && (changed("min-gateways") || changed("timeout")):
		return failure.Usagef("--min-gateways and --timeout go with --wait")
	case o.MinGateways < 0 || o.Timeout <= 0:
		return failure.Usagef("--min-gateways and --timeout must be positive")
	}
	return nil
}

// Run applies and waits.
func Run(ctx context.Context, o *Options) error {
	doc, err := document.Read(o.File, o.Factory.IO.In)
	if err != nil {
		return err
	}
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	res, err := stream.Apply(ctx, adminv1.NewResourceServiceClient(conn), doc, &adminv1.ApplyHeader{
		Group: o.Factory.GroupOf(doc.Group()), DryRun: o.DryRun, Prune: o.Prune, Immediate: o.Immediate, ContentType: doc.ContentType,
	})
	if err != nil {
		return err
	}
	if err := o.print(res); err != nil {
		return err
	}
	if !o.Wait {
		return nil
	}
	return o.wait(ctx, adminv1.NewGatewayServiceClient(conn), res)
}

func (o *Options) print(res *adminv1.ApplyResponse) error {
	io := o.Factory.IO
	difference.Warn(io, res.GetWarnings())
	format, err := o.Factory.Format(render.Table)
	if err != nil {
		return err
	}
	if format != render.Table {
		p, err := o.Factory.Printer()
		if err != nil {
			return err
		}
		return p.Message(io.Out, format, res)
	}
	if err := difference.Names(io, io.Out, res.GetChanges(), o.DryRun); err != nil {
		return err
	}
	switch {
	case o.DryRun:
		io.Say("dry run: nothing was stored")
	case res.GetChanged():
		io.Say("group %s is at revision %d", res.GetGroup(), res.GetRevision())
	default:
		io.Say("nothing to change: group %s stays at revision %d", res.GetGroup(), res.GetRevision())
	}
	return nil
}

var errNotApplied = errors.New("the configuration is stored, but not every gateway enforces it")
