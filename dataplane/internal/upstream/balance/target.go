// Package balance chooses among the targets of a service and keeps what is known of their health. It knows neither
// sockets nor clocks: the time is told, in nanoseconds of any clock that only goes forward, and what happened to a target
// as well. Choosing takes no lock and allocates nothing. Called by upstream.
package balance

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/runtime"
)

// Target is what is known of a target. Several sets may hold it: it outlives changes of its service.
type Target struct {
	address string
	group   *Group

	active   atomic.Int64 // requests under way
	failures atomic.Int64 // in a row
	unwell   atomic.Bool  // probes say so
	until    atomic.Int64 // it is ejected until then
	since    atomic.Int64 // when it joined or recovered; 0: it was there from the beginning
	latency  latency

	ejections int64 // guarded by group.mu: how often it was ejected, less what was forgiven
}

// Address is its address.
func (t *Target) Address() string { return t.address }

// Begin notes that a request goes to the target, End that it is over.
func (t *Target) Begin() { t.active.Add(1) }

// End ends what Begin began.
func (t *Target) End() { t.active.Add(-1) }

// Active returns how many requests are under way.
func (t *Target) Active() int64 { return t.active.Load() }

// Up says whether the target is neither ejected nor found unwell by probes.
func (t *Target) Up(now int64) bool { return !t.unwell.Load() && t.until.Load() <= now }

// Ejected says whether the target is out because requests to it failed.
func (t *Target) Ejected(now int64) bool { return t.until.Load() > now }

// Succeeded notes a request that did not fail.
func (t *Target) Succeeded() {
	if t.failures.Load() != 0 {
		t.failures.Store(0)
	}
}

// SetWell notes the verdict of probes and says whether it is a new one.
func (t *Target) SetWell(well bool, now int64) (changed bool) {
	if t.unwell.Swap(!well) == !well {
		return false
	}
	if well {
		t.since.Store(now)
	}
	t.group.changes.Add(1)
	return true
}

// share is the part of its weight that the target has: less than all while it starts slowly.
func (t *Target) share(now int64, slow time.Duration) float64 {
	const least = 0.1
	began := max(t.since.Load(), t.until.Load())
	if slow <= 0 || began == 0 || now-began >= int64(slow) {
		return 1
	}
	return max(least, float64(now-began)/float64(slow))
}

// Group are the targets of a service, those of all sets that are in use.
type Group struct {
	mu      sync.Mutex
	changes atomic.Uint64 // of anybody's health, but for time that passed
	members map[string]*Target
}

// NewGroup returns a group without targets.
func NewGroup() *Group { return &Group{members: map[string]*Target{}} }

// Join returns the target with this address, the one that is known already if there is one. The first targets of a group
// are there from the beginning, later ones start slowly.
func (g *Group) Join(address string, first bool, now int64) *Target {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.members[address]; t != nil {
		return t
	}
	t := &Target{address: address, group: g}
	if !first {
		t.since.Store(now)
	}
	g.members[address] = t
	return t
}

// Leave forgets the target with this address.
func (g *Group) Leave(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.members, address)
}

// Ejections last longer with each one, up to this many times what is configured.
const maxGrowth = 10

// Failed notes a request that failed at member i of the set, and ejects the target if that was one too many. It returns
// for how long, 0 if it does not.
func (s *Set) Failed(i int, now int64, p *runtime.PassiveHealth) time.Duration {
	t := s.members[i].Target
	if t.failures.Add(1) < int64(p.Failures) {
		return 0
	}
	g := s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	t.failures.Store(0)
	if t.Ejected(now) || !s.mayEject(now, p.MaxEjected) {
		return 0
	}
	if p.Ejection > 0 {
		forgiven := (now - t.until.Load()) / int64(p.Ejection)
		t.ejections = max(0, t.ejections-forgiven)
	}
	t.ejections = min(t.ejections+1, maxGrowth)
	d := p.Ejection * time.Duration(t.ejections)
	t.until.Store(now + int64(d))
	g.changes.Add(1)
	return d
}

// mayEject says whether one target more may be out without being more than so many percent.
func (s *Set) mayEject(now int64, percent int) bool {
	out, all := 1, 0
	for _, m := range s.members {
		if m.Weight <= 0 {
			continue
		}
		all++
		if m.Ejected(now) {
			out++
		}
	}
	return out*100 <= percent*all
}

// latency is a moving average of how long a target takes, which follows rises at once and falls slowly.
type latency struct {
	value atomic.Int64
	at    atomic.Int64
}

// decay is how long it takes to forget about two thirds of what was.
const decay = 10 * time.Second

func (l *latency) observe(now, took int64) {
	before, elapsed := l.value.Load(), now-l.at.Swap(now)
	if took < before {
		keep := math.Exp(-float64(max(elapsed, 0)) / float64(decay))
		took = int64(float64(before)*keep + float64(took)*(1-keep))
	}
	l.value.Store(max(took, 1))
}

// Took notes how long the target took to answer. now may be of another clock than elsewhere, but always of the same.
func (t *Target) Took(d time.Duration, now int64) { t.latency.observe(now, int64(d)) }

// unknownLatency is what a target is thought to take that has requests under way and has answered none yet.
const unknownLatency = int64(time.Second)

// cost is what one request more at the target costs.
func (t *Target) cost(weight float64) float64 {
	active, took := t.active.Load(), t.latency.value.Load()
	if took == 0 && active > 0 {
		took = unknownLatency
	}
	return float64(took) * float64(active+1) / weight
}
