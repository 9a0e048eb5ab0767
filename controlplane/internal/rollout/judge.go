package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Gateway is what is known of a connected gateway.
type Gateway struct {
	ID     string
	Labels map[string]string
	// Epoch and Applied are what it runs.
	Epoch   uint64
	Applied int64
	// Faults name what it cannot run.
	Faults []string
	// Now counts requests since it runs that, Before those with what it ran until then.
	Now, Before Counts
}

// Counts are requests.
type Counts struct{ Requests, Errors uint64 }

func (c *Counts) add(o Counts) {
	c.Requests += o.Requests
	c.Errors += o.Errors
}

func (c Counts) ratio() float64 {
	if c.Requests == 0 {
		return 0
	}
	return float64(c.Errors) / float64(c.Requests)
}

// leastRequests are needed to speak of a share of them.
const leastRequests = 20

// controlPlane is who moves stages by itself.
const controlPlane = "rollout"

// Judge answers the state that follows from what the gateways do: the change stopped, in its next stage, or nil for no
// other. waiting says why it is still where it is although its time is over.
func (s *State) Judge(now time.Time, gateways []Gateway) (next *State, waiting string) {
	if s.Phase != Rolling || s.Plan.GetFrozen() || s.even() {
		return nil, ""
	}
	if reason := s.fault(gateways); reason != "" {
		return s.step(Aborted, controlPlane, reason, s.Since), ""
	}
	at := s.Stage()
	if now.Sub(s.Since) < s.Plan.GetStages()[at].GetSoak().AsDuration() {
		return nil, ""
	}
	if waiting = s.unproved(at, gateways); waiting != "" {
		return nil, waiting
	}
	next = s.step(Rolling, "", "", now)
	next.Targets[at+1] = s.Targets[0]
	if next.even() {
		next.Phase = Done
	}
	return next, ""
}

// step is the state after this one.
func (s *State) step(p Phase, actor, reason string, since time.Time) *State {
	n := *s
	n.Targets = slices.Clone(s.Targets)
	n.Version++
	n.Phase, n.Actor, n.Reason, n.Since = p, actor, reason, since
	return &n
}

// unproved says what is missing for the stage to have proved the change. A stage that nobody is in proves nothing.
func (s *State) unproved(at int, gateways []Gateway) string {
	there, late := 0, 0
	for _, g := range gateways {
		stage := s.StageOf(g.ID, g.Labels)
		if stage == at {
			there++
		}
		if stage <= at && !s.runs(g) {
			late++
		}
	}
	switch {
	case there == 0:
		return fmt.Sprintf("no gateway of stage %d (%s) is connected", at+1, s.Members(at))
	case late > 0:
		return fmt.Sprintf("gateways that have not applied revision %d yet: %d", s.Targets[0], late)
	default:
		return ""
	}
}

// runs says whether the gateway runs what the first stage is to run.
func (s *State) runs(g Gateway) bool { return g.Epoch == s.Epoch && g.Applied >= s.Targets[0] }

// fault says why the change has to be stopped; empty if it has not.
func (s *State) fault(gateways []Gateway) string {
	known := map[string]bool{} // to gateways without the change as well
	for _, g := range gateways {
		for _, f := range g.Faults {
			known[f] = known[f] || !s.runs(g)
		}
	}
	var rejects uint32
	var first string
	var now, before Counts
	for _, g := range gateways {
		if !s.runs(g) {
			continue
		}
		now.add(g.Now)
		before.add(g.Before)
		if i := slices.IndexFunc(g.Faults, func(f string) bool { return !known[f] }); i >= 0 {
			if rejects++; first == "" {
				first = g.ID + " refuses " + g.Faults[i]
			}
		}
	}
	abort := s.Plan.GetAbort()
	if most := abort.GetRejects(); most > 0 && rejects >= most {
		return fmt.Sprintf("gateways that refuse something of it: %d (gateway %s)", rejects, first)
	}
	if most := abort.GetErrorRatio(); most > 0 && now.Requests >= leastRequests && now.ratio()-before.ratio() > float64(most)/whole {
		return fmt.Sprintf("%s of %d requests were answered 5xx, %s before", percent(now.ratio()), now.Requests, percent(before.ratio()))
	}
	return ""
}

func percent(ratio float64) string {
	return strconv.FormatFloat(float64(int64(ratio*100_000+.5))/1000, 'f', -1, 64) + "%"
}
