// Package registry knows the gateways: who enrolled, which are connected to this replica or another, and what each has
// applied. Acknowledgements are gathered in memory and written as one row for each group and replica; nothing here is
// needed to serve configuration, so a database that is down costs only news. The stream server tells it what happens,
// the admin API asks it.
package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/store"
)

// Store is what is read.
type Store interface {
	Gateways(ctx context.Context, group string) ([]store.Gateway, error)
	Gateway(ctx context.Context, group, id string) (store.Gateway, error)
	// Reports answers what replicas said of their gateways since then.
	Reports(ctx context.Context, group string, since time.Time) ([]store.ReplicaReport, error)
	Head(ctx context.Context, group string) (store.Head, error)
	JoinTokens(ctx context.Context, group string) ([]store.JoinToken, error)
}

// Notes is where news are written.
type Notes interface {
	SaveReport(ctx context.Context, r store.ReplicaReport) error
	DropReports(ctx context.Context, replica string, before time.Time) error
	SetGatewayHello(ctx context.Context, group, id string, h store.Hello) error
	SetGatewayState(ctx context.Context, group, id string, s store.GatewayState) error
}

// Changes are the writes that are audited.
type Changes interface {
	Revoke(ctx context.Context, group, id, actor, reason string) error
	CreateJoinToken(ctx context.Context, t store.JoinToken) (store.JoinToken, error)
	DeleteJoinToken(ctx context.Context, group, id, actor string) error
	// Adopt notes a gateway that has a certificate and is not known.
	Adopt(ctx context.Context, group, id string, c store.Certificate) error
}

// Skills knows what gateways said they can do.
type Skills interface {
	// GatewaysWithout answers the gateways that do not know all of the policy types, revoked ones left out.
	GatewaysWithout(ctx context.Context, group string, policyTypes []string) ([]store.Gateway, error)
}

// Rollouts knows how far gateways may go; *rollout.Ledger does.
type Rollouts interface {
	// State answers the roll-out of a group; nil if every gateway gets everything.
	State(ctx context.Context, group string) (*rollout.State, error)
}

// Revocations takes over a revocation at once.
type Revocations interface{ Add(id string) }

// Config is what a Registry needs.
type Config struct {
	Store       Store
	Notes       Notes
	Changes     Changes
	Revocations Revocations
	Rollouts    Rollouts
	Skills      Skills
	// Replica names this process.
	Replica string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Registry is the registry of one replica.
type Registry struct {
	cfg Config
	// news holds a signal that there is something to write.
	news chan struct{}

	mu     sync.Mutex // guards what follows
	groups map[string]*group
	notes  map[noteKey]*note
	// responses counts by class; the classes are fixed.
	responses map[string]uint64
	changed   chan struct{} // closed and replaced when a gateway connects, acknowledges or leaves
}

// group is the connected gateways of a group.
type group struct {
	live  map[string]*live
	dirty bool
	saved time.Time
}

// live is a gateway with at least one stream on this replica.
type live struct {
	sessions int
	report   store.GatewayReport
	// recent is how many requests it answered in the time of its last report.
	recent uint64
}

type noteKey struct{ group, id string }

// note is what is still to be written of a gateway.
type note struct {
	hello *store.Hello
	state *store.GatewayState
	// shown is the certificate that came with hello.
	shown store.Certificate
}

// New returns an empty registry. Run writes what it gathers.
func New(cfg Config) *Registry {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	classes := map[string]uint64{"1xx": 0, "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}
	return &Registry{
		cfg: cfg, news: make(chan struct{}, 1), groups: map[string]*group{}, notes: map[noteKey]*note{}, responses: classes, changed: make(chan struct{}),
	}
}

// Connection is a stream that opened.
type Connection struct {
	Group, ID   string
	Version     string
	PolicyTypes []string
	Contract    uint32
	Labels      map[string]string
	// Certificate is what it showed when it connected.
	Certificate store.Certificate
}

// Applied is what a gateway runs.
type Applied struct {
	Epoch    uint64
	Revision int64
	Digest   []byte
	Faults   []store.Fault
}

// Session is one stream of a gateway.
type Session struct {
	registry *Registry
	key      noteKey
	once     sync.Once
}

// Connect notes that a stream opened.
func (r *Registry) Connect(c Connection) *Session {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[c.Group]
	if g == nil {
		g = &group{live: map[string]*live{}}
		r.groups[c.Group] = g
	}
	l := g.live[c.ID]
	if l == nil {
		l = &live{report: store.GatewayReport{ID: c.ID}}
		g.live[c.ID] = l
	}
	l.sessions++
	l.report.LastSeen, l.report.Contract = now, c.Contract
	l.report.Bundle = "" // it says again what it trusts
	key := noteKey{c.Group, c.ID}
	hello := store.Hello{Version: c.Version, PolicyTypes: c.PolicyTypes, Labels: c.Labels, Replica: r.cfg.Replica, At: now}
	n := r.note(key)
	n.hello, n.shown = &hello, c.Certificate
	r.touch(g)
	return &Session{registry: r, key: key}
}

func (r *Registry) note(key noteKey) *note {
	n := r.notes[key]
	if n == nil {
		n = &note{}
		r.notes[key] = n
	}
	return n
}

func (r *Registry) touch(g *group) {
	g.dirty = true
	close(r.changed)
	r.changed = make(chan struct{})
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// Applied notes what the gateway says it runs.
func (s *Session) Applied(a Applied) {
	r := s.registry
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[s.key.group]
	if g == nil || g.live[s.key.id] == nil {
		return // an ack that was under way when the stream closed
	}
	l := g.live[s.key.id]
	was := l.report
	l.report = store.GatewayReport{
		ID: s.key.id, Epoch: a.Epoch, Revision: a.Revision, Digest: a.Digest, Faults: a.Faults, LastSeen: now,
		Contract: was.Contract, Bundle: was.Bundle, Now: was.Now, Before: was.Before,
	}
	if was.Epoch != a.Epoch || was.Revision != a.Revision {
		turn(&l.report)
	}
	r.touch(g)
}

// Trusts notes the digest of the trust bundle that the gateway has taken over.
func (s *Session) Trusts(bundle [sha256.Size]byte) {
	r := s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[s.key.group]
	if g == nil || g.live[s.key.id] == nil {
		return
	}
	g.live[s.key.id].report.Bundle = short(bundle)
	r.touch(g)
}

// short is enough of a digest to tell the few bundles of an installation apart.
func short(bundle [sha256.Size]byte) string { return hex.EncodeToString(bundle[:8]) }

// turn begins to count anew. What was counted stays for comparison unless it was so little that it says less than what
// stays of before.
func turn(r *store.GatewayReport) {
	const enough = 20
	if r.Now.Requests >= enough || r.Before.Requests == 0 {
		r.Before = r.Now
	}
	r.Now = store.Counts{}
}

// Close notes that the stream ended.
func (s *Session) Close() { s.once.Do(s.close) }

func (s *Session) close() {
	r := s.registry
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[s.key.group]
	l := g.live[s.key.id]
	l.sessions--
	if l.sessions == 0 {
		delete(g.live, s.key.id)
		r.note(s.key).state = &store.GatewayState{
			LastSeen: now, AppliedEpoch: l.report.Epoch, AppliedRevision: l.report.Revision,
			AppliedDigest: l.report.Digest, Faults: l.report.Faults,
		}
	}
	r.touch(g)
}

// Connected returns the number of gateways with streams on this replica.
func (r *Registry) Connected() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, g := range r.groups {
		n += len(g.live)
	}
	return n
}

// Lag answers how many revisions the furthest behind of the group's gateways on this replica is behind the given position;
// not ok: there are none.
func (r *Registry) Lag(groupName string, epoch uint64, revision int64) (lag int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[groupName]
	if g == nil || len(g.live) == 0 {
		return 0, false
	}
	for _, l := range g.live {
		lag = max(lag, behind(store.Head{Epoch: epoch, Revision: revision}, l.report.Epoch, l.report.Revision))
	}
	return lag, true
}

// Reported takes a gateway's counters. They are kept while it is connected here and are lost without harm.
func (r *Registry) Reported(groupName, id string, responses map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[groupName]
	if g == nil || g.live[id] == nil {
		return
	}
	l := g.live[id]
	l.recent = 0
	for class, n := range responses {
		if _, ok := r.responses[class]; ok {
			r.responses[class] += n
			l.report.Now.Requests += n
			l.recent += n
		}
	}
	l.report.Now.Errors += responses["5xx"]
}

// Busiest names the gateways of each group that answered most requests of late, at most n, the busiest first. Those that
// answered none are not among them.
func (r *Registry) Busiest(n int) map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	busiest := make(map[string][]string, len(r.groups))
	for name, g := range r.groups {
		ids := make([]string, 0, len(g.live))
		for id, l := range g.live {
			if l.recent > 0 {
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, func(a, b string) int {
			return cmp.Or(cmp.Compare(g.live[b].recent, g.live[a].recent), cmp.Compare(a, b))
		})
		busiest[name] = ids[:min(n, len(ids))]
	}
	return busiest
}

// Responses answers how many requests the gateways on this replica have reported, by class of answer.
func (r *Registry) Responses() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.responses)
}
