package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/store"
)

// State is how a gateway does.
type State string

// The states.
const (
	// Online: connected, and runs the newest revision that it is to run.
	Online State = "online"
	// Lagging: connected, and does not run that revision: it has not acknowledged it yet, or has one that the database has
	// lost.
	Lagging State = "lagging"
	// Rejecting: connected, and cannot run some resource.
	Rejecting State = "rejecting"
	// Offline: not connected.
	Offline State = "offline"
	// Revoked: refused for good.
	Revoked State = "revoked"
)

// Gateway is a gateway and how it does.
type Gateway struct {
	store.Gateway
	State State
	// Lag is how many revisions it is behind the newest; all of them if it knows another history.
	Lag int64
	// Target is the revision that it is to run: the newest, unless a roll-out holds it back.
	Target int64
}

// Connected says whether the gateway has a stream.
func (g Gateway) Connected() bool { return g.Replica != "" }

func gone(err error) bool { return errors.Is(err, store.ErrNotFound) }

// List answers the gateways of a group, revoked ones too, in the order in which they enrolled.
func (r *Registry) List(ctx context.Context, group string) ([]Gateway, error) {
	rows, err := r.cfg.Store.Gateways(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("list gateways of group %s: %w", group, err)
	}
	return r.complete(ctx, group, rows)
}

// Get answers one gateway.
func (r *Registry) Get(ctx context.Context, group, id string) (Gateway, error) {
	row, err := r.cfg.Store.Gateway(ctx, group, id)
	if err != nil {
		return Gateway{}, fmt.Errorf("get gateway %s: %w", id, err)
	}
	all, err := r.complete(ctx, group, []store.Gateway{row})
	if err != nil {
		return Gateway{}, err
	}
	return all[0], nil
}

// ConnectedIn answers how many gateways of the group have a stream on any replica.
func (r *Registry) ConnectedIn(ctx context.Context, group string) (int, error) {
	seen, err := r.seen(ctx, group)
	return len(seen), err
}

// Trusting answers the ids of the group's gateways with a stream on any replica, and of those among them that have not said
// that they took over the trust bundle with that digest.
func (r *Registry) Trusting(ctx context.Context, group string, bundle [sha256.Size]byte) (connected, not []string, err error) {
	seen, err := r.seen(ctx, group)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		connected = append(connected, id)
		if seen[id].Bundle != short(bundle) {
			not = append(not, id)
		}
	}
	return connected, not, nil
}

// Revoke ends the gateway's streams, here at once and on other replicas when they are woken, and refuses it for good.
func (r *Registry) Revoke(ctx context.Context, group, id, actor, reason string) (Gateway, error) {
	row, err := r.cfg.Store.Gateway(ctx, group, id)
	if err != nil {
		return Gateway{}, fmt.Errorf("revoke gateway %s: %w", id, err)
	}
	if row.RevokedAt.IsZero() {
		if err := r.cfg.Changes.Revoke(ctx, group, id, actor, reason); err != nil && !gone(err) {
			return Gateway{}, fmt.Errorf("revoke gateway %s: %w", id, err)
		}
	}
	r.cfg.Revocations.Add(id)
	return r.Get(ctx, group, id)
}

// sighting is a connected gateway.
type sighting struct {
	store.GatewayReport
	replica string
	at      time.Time
}

// seen merges what this replica and the others know of connected gateways. Of one that two replicas claim, the one that
// heard of it last is right: the other may be dead.
func (r *Registry) seen(ctx context.Context, name string) (map[string]sighting, error) {
	now := r.cfg.Now()
	reports, err := r.cfg.Store.Reports(ctx, name, now.Add(-staleAfter))
	if err != nil {
		return nil, fmt.Errorf("read reports of group %s: %w", name, err)
	}
	all := map[string]sighting{}
	for _, report := range reports {
		if report.Replica == r.cfg.Replica {
			continue // memory knows better
		}
		for _, g := range report.Gateways {
			if old, ok := all[g.ID]; !ok || old.LastSeen.Before(g.LastSeen) {
				all[g.ID] = sighting{g, report.Replica, report.At}
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.groups[name]; g != nil {
		for id, l := range g.live {
			if old, ok := all[id]; !ok || !old.LastSeen.After(l.report.LastSeen) {
				all[id] = sighting{l.report, r.cfg.Replica, now}
			}
		}
	}
	return all, nil
}

func (r *Registry) complete(ctx context.Context, group string, rows []store.Gateway) ([]Gateway, error) {
	seen, err := r.seen(ctx, group)
	if err != nil {
		return nil, err
	}
	head, err := r.cfg.Store.Head(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("read head of group %s: %w", group, err)
	}
	state, err := r.cfg.Rollouts.State(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("read roll-out of group %s: %w", group, err)
	}
	out := make([]Gateway, len(rows))
	for i, row := range rows {
		s, connected := seen[row.ID]
		out[i] = merge(row, s, connected, head, target(state, head, row))
	}
	return out, nil
}

// target is the revision that a gateway is to run.
func target(state *rollout.State, head store.Head, row store.Gateway) int64 {
	if state == nil || state.Epoch != head.Epoch {
		return head.Revision
	}
	return min(head.Revision, state.Target(row.ID, row.Labels))
}

func merge(row store.Gateway, s sighting, connected bool, head store.Head, target int64) Gateway {
	g := Gateway{Gateway: row, State: Offline, Target: target}
	g.Replica = ""
	if connected {
		g.Replica, g.LastSeen = s.replica, s.at
		g.AppliedEpoch, g.AppliedRevision, g.AppliedDigest, g.Faults = s.Epoch, s.Revision, s.Digest, s.Faults
	}
	g.Lag = behind(head, g.AppliedEpoch, g.AppliedRevision)
	switch {
	case !row.RevokedAt.IsZero():
		g.State = Revoked
	case !connected:
	case len(g.Faults) > 0:
		g.State = Rejecting
	case g.AppliedEpoch != head.Epoch || g.AppliedRevision < target || g.AppliedRevision > head.Revision:
		g.State = Lagging
	default:
		g.State = Online
	}
	return g
}

// behind is how many revisions after the given one there are.
func behind(head store.Head, epoch uint64, revision int64) int64 {
	if epoch != head.Epoch {
		return head.Revision
	}
	return max(0, head.Revision-revision)
}

// Progress is how far the connected gateways are.
type Progress struct {
	// Done: every connected gateway runs the revision, and there are enough of them.
	Done      bool
	Connected int
	// Pending are the ids of connected gateways that do not run it yet.
	Pending []string
	// Rejecting are connected gateways that run it except for what they cannot.
	Rejecting []Gateway
	// Held counts the connected gateways that a roll-out does not give it yet. Nobody waits for them.
	Held int
}

const (
	// waitPoll is how often other replicas' reports are read at first while somebody waits, and waitPollMax later on.
	waitPoll    = 20 * time.Millisecond
	waitPollMax = 200 * time.Millisecond
	// waitFloor keeps a burst of acknowledgements from turning into a burst of reads.
	waitFloor = 10 * time.Millisecond
)

// WaitForRevision answers when every connected gateway on any replica runs the revision and there are at least least of
// them, when one that runs it rejects something, or when the timeout is over.
func (r *Registry) WaitForRevision(ctx context.Context, group string, revision int64, least int, timeout time.Duration) (Progress, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	pause := waitPoll
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		p, err := r.progress(ctx, group, revision, least)
		if err != nil || p.Done || len(p.Rejecting) > 0 {
			return p, err
		}
		poll := time.NewTimer(pause)
		pause = min(pause*5/4, waitPollMax)
		select {
		case <-ctx.Done():
			poll.Stop()
			return p, context.Cause(ctx)
		case <-deadline.C:
			poll.Stop()
			return p, nil
		case <-poll.C:
		case <-changed:
			poll.Stop()
			select {
			case <-time.After(waitFloor):
			case <-ctx.Done():
			}
		}
	}
}

func (r *Registry) progress(ctx context.Context, group string, revision int64, least int) (Progress, error) {
	seen, err := r.seen(ctx, group)
	if err != nil {
		return Progress{}, err
	}
	head, err := r.cfg.Store.Head(ctx, group)
	if err != nil {
		return Progress{}, fmt.Errorf("read head of group %s: %w", group, err)
	}
	targets, err := r.targets(ctx, group, head)
	if err != nil {
		return Progress{}, err
	}
	p := Progress{Connected: len(seen)}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		s, to := seen[id], targets(id)
		switch there := s.Epoch == head.Epoch && s.Revision >= revision; {
		case !there && to < revision:
			p.Held++
		case !there:
			p.Pending = append(p.Pending, id)
		case len(s.Faults) > 0:
			p.Rejecting = append(p.Rejecting, merge(store.Gateway{ID: id, Group: group}, s, true, head, to))
		}
	}
	p.Done = len(p.Pending) == 0 && len(p.Rejecting) == 0 && p.Connected >= least
	return p, nil
}

// targets answers which revision each gateway is to run. Labels are read only where they matter.
func (r *Registry) targets(ctx context.Context, group string, head store.Head) (func(id string) int64, error) {
	state, err := r.cfg.Rollouts.State(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("read roll-out of group %s: %w", group, err)
	}
	if state == nil {
		return func(string) int64 { return head.Revision }, nil
	}
	rows, err := r.cfg.Store.Gateways(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("list gateways of group %s: %w", group, err)
	}
	all := make(map[string]int64, len(rows))
	for _, row := range rows {
		all[row.ID] = target(state, head, row)
	}
	return func(id string) int64 { return all[id] }, nil
}

// Evidence answers what the connected gateways of a group do, for who decides about a roll-out.
func (r *Registry) Evidence(ctx context.Context, group string) ([]rollout.Gateway, error) {
	seen, err := r.seen(ctx, group)
	if err != nil {
		return nil, err
	}
	rows, err := r.cfg.Store.Gateways(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("list gateways of group %s: %w", group, err)
	}
	var out []rollout.Gateway
	for _, row := range rows {
		s, connected := seen[row.ID]
		if !connected || !row.RevokedAt.IsZero() {
			continue
		}
		g := rollout.Gateway{
			ID: row.ID, Labels: row.Labels, Epoch: s.Epoch, Applied: s.Revision,
			Now: rollout.Counts(s.Now), Before: rollout.Counts(s.Before),
		}
		for _, f := range s.Faults {
			g.Faults = append(g.Faults, f.Kind+"/"+f.Name+": "+f.Reason)
		}
		out = append(out, g)
	}
	return out, nil
}
