// Package diff is `keyward diff`: what applying a document would change. The control plane compares, so defaults and
// short forms make no difference; secrets are shown to change, never shown.
package diff

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/anypb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/stream"
	"keyward.dev/controlplane/cmd/keyward/internal/document"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// Options of one run.
type Options struct {
	Factory *factory.Factory

	File     string
	Prune    bool
	ExitCode bool
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what applying a document would change",
		Long: `Show what applying a document would change. Nothing is printed if nothing would change.

It takes the right to apply. Secrets are not shown; a resource of which only a secret changes is named.`,
		Example: `  keyward diff -f gateway.yaml
  keyward diff -f config/ --prune --exit-code || echo out of date`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.File == "" {
				return failure.Usagef("say which document with -f FILE (- for stdin)")
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
	fs.BoolVar(&opts.ExitCode, "exit-code", false, "exit with 1 if something would change")
	return cmd
}

// Run compares and prints.
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
		Group: o.Factory.GroupOf(doc.Group()), DryRun: true, Prune: o.Prune, ContentType: doc.ContentType,
	})
	if err != nil {
		return err
	}
	if err := o.Factory.Print(res, func() error { return o.print(res) }); err != nil {
		return err
	}
	if o.ExitCode && len(res.GetChanges()) > 0 {
		return failure.Exit(failure.Failed)
	}
	return nil
}

func (o *Options) print(res *adminv1.ApplyResponse) error {
	p, err := o.Factory.Printer()
	if err != nil {
		return err
	}
	for _, c := range res.GetChanges() {
		before, err := text(p, c.GetBefore())
		if err != nil {
			return err
		}
		after, err := text(p, c.GetAfter())
		if err != nil {
			return err
		}
		if err := o.change(c, before, after); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) change(c *adminv1.ResourceChange, before, after []string) error {
	io := o.Factory.IO
	var b strings.Builder
	b.WriteString(io.Paint(stream.Colour(c.GetAction()), c.GetAction()) + " " + c.GetKind() + "/" + c.GetName() + "\n")
	lines := compare(before, after)
	if len(lines) == 0 && c.GetAction() == "update" {
		b.WriteString("  (a secret changes)\n")
	}
	for _, l := range lines {
		b.WriteString("  " + io.Paint(colour(l), l) + "\n")
	}
	if _, err := fmt.Fprint(io.Out, b.String()); err != nil {
		return fmt.Errorf("print difference: %w", err)
	}
	return nil
}

func colour(line string) terminal.Colour {
	switch line[0] {
	case '+':
		return terminal.Green
	case '-':
		return terminal.Red
	default:
		return terminal.Faint
	}
}

// text answers the lines of a resource without what the server sets on every write.
func text(p *render.Printer, a *anypb.Any) ([]string, error) {
	if a == nil {
		return nil, nil
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("print difference: %w", err)
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	for _, name := range serverFields() {
		if fd := fields.ByName(name); fd != nil {
			m.ProtoReflect().Clear(fd)
		}
	}
	t, err := p.Text(m)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(t, "\n"), "\n"), nil
}
