// Package chain prints a policy chain, for the commands that show one (explain route, route test).
package chain

import (
	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/render"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// Print writes a line for each policy, in the order in which they run.
func Print(io *terminal.Streams, links []*adminv1.Link) error {
	g := render.NewGrid(io, "PHASE", "POLICY", "BOUND ON", "MODE", "LOCKED", "EFFECT")
	for _, l := range links {
		policy := l.GetType()
		if l.GetName() != "" && l.GetName() != l.GetType() {
			policy += " (" + l.GetName() + ")"
		}
		site := l.GetBoundOn()
		if l.GetBoundName() != "" && l.GetBoundName() != site {
			site += "/" + l.GetBoundName()
		}
		locked := "-"
		if l.GetLocked() {
			locked = "yes"
		}
		effect := render.Cell{Text: "runs", Colour: terminal.Green}
		if l.GetSuppressed() != "" {
			effect = render.Cell{Text: l.GetSuppressed(), Colour: terminal.Faint}
		}
		g.AddCells(render.Cell{Text: l.GetPhase()}, render.Cell{Text: policy}, render.Cell{Text: site},
			render.Cell{Text: render.Or(l.GetMode(), "-")}, render.Cell{Text: locked}, effect)
	}
	return g.Print()
}
