package rollout

import (
	"context"
	"time"
)

// Status is a roll-out and how the gateways of its stages are.
type Status struct {
	// State is nil if nothing holds changes back.
	State  *State
	Stages []StageStatus
	// Waiting says why it does not go on although its time is over.
	Waiting string
}

// StageStatus counts the connected gateways of a stage.
type StageStatus struct{ Connected, Applied, Rejecting int }

// Desk is where operators see and steer roll-outs.
type Desk struct {
	book    Book
	witness Witness
	now     func() time.Time
}

// NewDesk returns a desk.
func NewDesk(book Book, witness Witness, now func() time.Time) *Desk {
	return &Desk{book: book, witness: witness, now: now}
}

// Status answers how the roll-out of a group is.
func (d *Desk) Status(ctx context.Context, group string) (Status, error) {
	s, err := d.book.State(ctx, group)
	if err != nil || s == nil {
		return Status{}, err
	}
	return d.describe(ctx, group, s)
}

// Steer carries out what an operator wants.
func (d *Desk) Steer(ctx context.Context, group string, a Action, actor, reason string) (Status, error) {
	s, err := d.book.Move(ctx, group, actor, func(now *State) (*State, error) { return now.Steer(a, actor, reason, d.now()) })
	if err != nil {
		return Status{}, err
	}
	return d.describe(ctx, group, s)
}

func (d *Desk) describe(ctx context.Context, group string, s *State) (Status, error) {
	gateways, err := d.witness.Evidence(ctx, group)
	if err != nil {
		return Status{}, err
	}
	out := Status{State: s, Stages: make([]StageStatus, len(s.Targets))}
	for _, g := range gateways {
		at := &out.Stages[s.StageOf(g.ID, g.Labels)]
		at.Connected++
		if g.Epoch == s.Epoch && g.Applied >= s.Target(g.ID, g.Labels) {
			at.Applied++
		}
		if len(g.Faults) > 0 {
			at.Rejecting++
		}
	}
	_, out.Waiting = s.Judge(d.now(), gateways)
	return out, nil
}
