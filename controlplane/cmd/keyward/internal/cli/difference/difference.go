// Package difference prints what changes about resources, for the commands that show it (diff, revisions show, rollback).
package difference

import (
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/stream"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// Print prints changes line by line.
func Print(f *factory.Factory, changes []*adminv1.ResourceChange) error {
	p, err := f.Printer()
	if err != nil {
		return err
	}
	for _, c := range changes {
		before, err := text(p, c.GetBefore())
		if err != nil {
			return err
		}
		after, err := text(p, c.GetAfter())
		if err != nil {
			return err
		}
		if err := change(f.IO, c, before, after); err != nil {
			return err
		}
	}
	return nil
}

// Names prints a line for each resource that is touched.
func Names(io *terminal.Streams, w io.Writer, changes []*adminv1.ResourceChange, dryRun bool) error {
	for _, c := range changes {
		line := io.Paint(stream.Colour(c.GetAction()), stream.Done(c.GetAction(), dryRun)) + " " + c.GetKind() + "/" + c.GetName()
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("print changes: %w", err)
		}
	}
	return nil
}

// Warn says what the control plane remarks.
func Warn(io *terminal.Streams, warnings []*adminv1.Notice) {
	for _, w := range warnings {
		if w.GetPath() == "" {
			io.Say("warning: %s", w.GetMessage())
			continue
		}
		io.Say("warning: %s: %s", w.GetPath(), w.GetMessage())
	}
}

func change(io *terminal.Streams, c *adminv1.ResourceChange, before, after []string) error {
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
