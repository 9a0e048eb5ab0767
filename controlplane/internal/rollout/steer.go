package rollout

import (
	"time"

	"keyward.dev/shared/problem"
)

// Action is what an operator can do to a roll-out.
type Action string

// The actions.
const (
	Pause   Action = "pause"
	Resume  Action = "resume"
	Abort   Action = "abort"
	Promote Action = "promote"
)

// Steer answers the state after the action. One that has nothing to act on is a conflict.
func (s *State) Steer(a Action, actor, reason string, now time.Time) (*State, error) {
	if s == nil {
		return nil, problem.Errorf(problem.Conflict, "the settings of the group stage nothing: every change goes to all gateways at once")
	}
	switch a {
	case Pause:
		if s.Phase == Paused {
			return nil, problem.Errorf(problem.Conflict, "the roll-out is paused already")
		}
		return s.step(Paused, actor, reason, s.Since), nil
	case Resume:
		return s.resume(actor, reason, now)
	case Abort:
		if s.Phase != Rolling && s.Phase != Paused || s.even() {
			return nil, problem.Errorf(problem.Conflict, "nothing is being rolled out")
		}
		return s.step(Aborted, actor, reason, s.Since), nil
	case Promote:
		if s.even() {
			return nil, problem.Errorf(problem.Conflict, "all gateways get revision %d already", s.Revision)
		}
		n := s.step(Done, actor, reason, now)
		n.all(s.Revision)
		return n, nil
	default:
		return nil, problem.Violated([]problem.Violation{{Path: "action", Reason: "must be pause, resume, abort or promote"}})
	}
}

// resume goes on where the roll-out was stopped, with the stage's whole time before it. What came meanwhile is the change
// now, and begins with the first stage.
func (s *State) resume(actor, reason string, now time.Time) (*State, error) {
	if s.Phase != Paused && s.Phase != Aborted {
		return nil, problem.Errorf(problem.Conflict, "the roll-out is neither paused nor aborted")
	}
	n := s.step(Rolling, actor, reason, now)
	if !s.Plan.GetFrozen() {
		n.begin()
	}
	return n, nil
}
