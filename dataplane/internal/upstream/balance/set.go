package balance

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/runtime"
)

// Member is a target with its weight in a set; a weight of 0 takes no requests.
type Member struct {
	*Target
	Weight int
}

// Set chooses among the targets of a service as it is configured. It is not changed: a changed service has another.
type Set struct {
	group   *Group
	members []Member
	config  runtime.Balancer
	ring    []point // with ConsistentHash

	next   atomic.Uint64
	choice atomic.Pointer[choice]
	mu     sync.Mutex // held while choice is made anew
}

// choice is what can be chosen while nothing changes.
type choice struct {
	changes uint64 // the group's when it was made
	until   int64  // when time alone changes something
	panic   bool   // no target is up, so that all of them are used
	from    []candidate
	order   []uint32 // of candidates, by weight: for RoundRobin
}

type candidate struct {
	index  int // among the members
	weight float64
}

// NewSet returns a set of members of the group.
func NewSet(g *Group, members []Member, c runtime.Balancer, now int64) *Set {
	s := &Set{group: g, members: members, config: c}
	if c.Algorithm == runtime.ConsistentHash {
		s.ring = newRing(members)
	}
	s.next.Store(rand.Uint64() >> 1) // gateways that start together do not all begin with the first target
	s.choice.Store(s.choose(now))
	return s
}

// Tried are members that a request went to before.
type Tried struct {
	n    int
	list [8]int32
}

// Add notes that member i was tried; only the first few are remembered.
func (t *Tried) Add(i int) {
	if t.n < len(t.list) {
		t.list[t.n] = int32(i)
		t.n++
	}
}

func (t *Tried) has(i int) bool {
	for _, v := range t.list[:t.n] {
		if int(v) == i {
			return true
		}
	}
	return false
}

// Pick chooses the member that takes a request, one that was not tried yet if there is one. hash counts with
// ConsistentHash only. ok is false if no member has a weight.
func (s *Set) Pick(now int64, hash uint64, tried *Tried) (index int, ok bool) {
	c := s.current(now)
	switch len(c.from) {
	case 0:
		return 0, false
	case 1:
		return c.from[0].index, true
	}
	switch s.config.Algorithm {
	case runtime.LeastConnections:
		return s.leastBusy(c, tried), true
	case runtime.PeakEWMA:
		return s.cheaper(c, tried), true
	case runtime.ConsistentHash:
		return s.owner(c, now, hash, tried), true
	case runtime.RoundRobin:
	}
	return s.nextInTurn(c, tried), true
}

// Panicking says whether no target is up, so that requests go to all that have a weight.
func (s *Set) Panicking(now int64) bool { return s.current(now).panic }

// Measures says whether Took is of any use.
func (s *Set) Measures() bool { return s.config.Algorithm == runtime.PeakEWMA }

// current returns what can be chosen now. One goroutine finds out when something has changed; the others go on meanwhile
// with what was.
func (s *Set) current(now int64) *choice {
	c := s.choice.Load()
	if c.changes == s.group.changes.Load() && now < c.until || !s.mu.TryLock() {
		return c
	}
	defer s.mu.Unlock()
	c = s.choose(now)
	s.choice.Store(c)
	return c
}

// slowSteps is in how many steps a target reaches its full weight.
const slowSteps = 20

func (s *Set) choose(now int64) *choice {
	c := &choice{changes: s.group.changes.Load(), until: math.MaxInt64}
	for i, m := range s.members {
		if m.Weight <= 0 {
			continue
		}
		if until := m.until.Load(); until > now {
			c.until = min(c.until, until)
		}
		if !m.Up(now) {
			continue
		}
		share := m.share(now, s.config.SlowStart)
		if share < 1 {
			c.until = min(c.until, now+max(int64(s.config.SlowStart/slowSteps), int64(100*time.Millisecond)))
		}
		c.from = append(c.from, candidate{i, float64(m.Weight) * share})
	}
	if len(c.from) == 0 {
		c.panicked(s.members)
	}
	if s.config.Algorithm == runtime.RoundRobin {
		c.order = schedule(c.from)
	}
	return c
}

func (c *choice) panicked(members []Member) {
	for i, m := range members {
		if m.Weight > 0 {
			c.from = append(c.from, candidate{i, float64(m.Weight)})
			c.panic = true
		}
	}
}

// leastBusy chooses the target with the fewest requests for its weight. Of many it looks at some only.
func (s *Set) leastBusy(c *choice, tried *Tried) int {
	const most = 64
	start, best, load := rand.IntN(len(c.from)), -1, 0.0
	for k := range min(len(c.from), most) {
		f := c.from[(start+k)%len(c.from)]
		if tried.has(f.index) {
			continue
		}
		if l := float64(s.members[f.index].active.Load()+1) / f.weight; best < 0 || l < load {
			best, load = f.index, l
		}
	}
	if best < 0 {
		return c.from[start].index
	}
	return best
}

// cheaper chooses the better of two targets drawn at random: looking at more would send everybody to the same one.
func (s *Set) cheaper(c *choice, tried *Tried) int {
	i := rand.IntN(len(c.from))
	j := rand.IntN(len(c.from) - 1)
	if j >= i {
		j++
	}
	a, b := c.from[i], c.from[j]
	switch {
	case tried.has(a.index) && tried.has(b.index):
		return s.leastBusy(c, tried)
	case tried.has(a.index):
		return b.index
	case tried.has(b.index):
		return a.index
	}
	if s.members[b.index].cost(b.weight) < s.members[a.index].cost(a.weight) {
		return b.index
	}
	return a.index
}

func (s *Set) nextInTurn(c *choice, tried *Tried) int {
	n := s.next.Add(1)
	for k := range uint64(len(c.order)) {
		if i := c.from[c.order[(n+k)%uint64(len(c.order))]].index; !tried.has(i) {
			return i
		}
	}
	return c.from[c.order[n%uint64(len(c.order))]].index
}
