// Package rollout decides how far each gateway of a group may follow the group's changes. The settings stage changes or
// freeze them; a State says which revision each stage is to run now, and is kept in the database beside the group's head,
// so that any replica can go on with it. The write path moves the state with each revision, the Driver when a stage has
// proved a change, operators through the admin API; the stream side asks for targets. Deciding (State) is pure, the Ledger
// stores.
package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// Phase is what a roll-out does.
type Phase string

// The phases.
const (
	// Rolling: the newest revision goes from stage to stage.
	Rolling Phase = "rolling"
	// Done: every gateway is to run the newest revision.
	Done Phase = "done"
	// Paused: an operator stopped it; newer revisions wait, too.
	Paused Phase = "paused"
	// Aborted: the newest revision goes no further; a newer one begins anew.
	Aborted Phase = "aborted"
)

// State is the roll-out of a group at one revision. It is never changed; what moves it answers another.
type State struct {
	Epoch uint64
	// Revision is the newest of the group.
	Revision int64
	// Version grows with every State of a revision.
	Version int64
	// Plan is what the settings of that revision say.
	Plan *configv1.Rollout
	// Targets are the revisions that the stages are to run, and last that of the gateways in no stage. They never grow from
	// one to the next.
	Targets []int64
	// Since is when the targets moved last.
	Since time.Time
	Phase Phase
	// Reason and Actor are of the last step that somebody, or an abort, made.
	Reason, Actor string
}

// Staged says whether the settings hold changes back at all.
func Staged(plan *configv1.Rollout) bool { return len(plan.GetStages()) > 0 || plan.GetFrozen() }

// Commit is a new revision.
type Commit struct {
	Epoch    uint64
	Revision int64
	// Plan is what the settings say once it holds.
	Plan *configv1.Rollout
	// Immediate says that it must not wait.
	Immediate bool
	At        time.Time
}

// Next answers the state with the revision; nil: every gateway gets everything. A nil state is that of a group whose
// changes were not staged until now.
func (s *State) Next(c Commit) *State {
	if !Staged(c.Plan) {
		return nil
	}
	n := &State{Epoch: c.Epoch, Revision: c.Revision, Plan: c.Plan, Since: c.At, Phase: Rolling}
	n.Targets = s.base(c)
	if s != nil && s.Phase == Paused {
		n.Phase, n.Reason, n.Actor = Paused, s.Reason, s.Actor
	}
	switch {
	case c.Immediate:
		n.all(c.Revision)
		if n.Phase != Paused {
			n.Phase = Done
		}
	case n.Phase != Paused && !c.Plan.GetFrozen():
		n.begin()
	}
	return n
}

// base are the targets before the revision. Where the stages are others, those who are furthest behind set the pace.
func (s *State) base(c Commit) []int64 {
	if s != nil && s.Epoch == c.Epoch && s.Revision == c.Revision-1 {
		if slices.EqualFunc(s.Plan.GetStages(), c.Plan.GetStages(), sameMembers) {
			return slices.Clone(s.Targets)
		}
		return slices.Repeat(s.Targets[len(s.Targets)-1:], len(c.Plan.GetStages())+1)
	}
	return slices.Repeat([]int64{c.Revision - 1}, len(c.Plan.GetStages())+1)
}

func sameMembers(a, b *configv1.RolloutStage) bool {
	return a.GetPercent() == b.GetPercent() && maps.Equal(a.GetLabels(), b.GetLabels())
}

// begin gives the newest revision to the first stage.
func (s *State) begin() {
	s.Targets[0] = s.Revision
	if s.even() {
		s.Phase = Done
	}
}

func (s *State) all(revision int64) {
	for i := range s.Targets {
		s.Targets[i] = revision
	}
}

// even says whether every gateway is to run the newest revision.
func (s *State) even() bool { return s.Lowest() == s.Revision }

// Stage answers the last stage that has what the first has, from 0.
func (s *State) Stage() int {
	i := 0
	for i+1 < len(s.Targets) && s.Targets[i+1] == s.Targets[0] {
		i++
	}
	return i
}

// Pending answers how many revisions some gateway is not to run yet.
func (s *State) Pending() int64 {
	if s == nil {
		return 0
	}
	return s.Revision - s.Lowest()
}

// Lowest answers the earliest revision that a gateway is to run: who joins may have to begin with it.
func (s *State) Lowest() int64 { return s.Targets[len(s.Targets)-1] }

// StageOf answers the stage that a gateway belongs to: the first that takes it.
func (s *State) StageOf(id string, labels map[string]string) int {
	for i, stage := range s.Plan.GetStages() {
		if belongs(stage, id, labels) {
			return i
		}
	}
	return len(s.Plan.GetStages())
}

// Target answers the revision that a gateway is to run.
func (s *State) Target(id string, labels map[string]string) int64 {
	return s.Targets[s.StageOf(id, labels)]
}

func belongs(stage *configv1.RolloutStage, id string, labels map[string]string) bool {
	if p := stage.GetPercent(); p > 0 {
		return share(id) < p
	}
	for k, v := range stage.GetLabels() {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return len(stage.GetLabels()) > 0
}

// whole is all gateways, in the unit of percents in the settings.
const whole = 1_000_000

// share spreads ids evenly over [0, whole), each always to the same place.
func share(id string) uint32 {
	sum := sha256.Sum256([]byte(id))
	return uint32(binary.BigEndian.Uint64(sum[:]) % whole)
}

// Members says in a few words who belongs to a stage.
func (s *State) Members(i int) string {
	stages := s.Plan.GetStages()
	if i >= len(stages) {
		return "others"
	}
	if p := stages[i].GetPercent(); p > 0 {
		return percent(float64(p) / whole)
	}
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(stages[i].GetLabels())) {
		pairs = append(pairs, k+"="+stages[i].GetLabels()[k])
	}
	return strings.Join(pairs, ",")
}
