package fleet

import (
	"slices"
	"sync"
	"time"
)

// position is a revision of an epoch; the zero value is before the first.
type position struct {
	epoch    uint64
	revision int64
}

// Reached says that all gateways have applied a revision, or a later one of the same epoch.
type Reached struct {
	Event    string `json:"event"`
	Epoch    uint64 `json:"epoch,string"`
	Revision int64  `json:"revision"`
	Gateways int    `json:"gateways"`
	// CommittedAt is the control plane's time; missing if all got the revision as part of a whole set.
	CommittedAt *time.Time `json:"committed_at,omitempty"`
	// First and Last are when the first and the last gateway got there.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Seconds are from the commit to the last.
	Seconds float64 `json:"seconds,omitempty"`
}

// progress knows who has applied what.
type progress struct {
	mu     sync.Mutex // guards what follows
	at     []position // by gateway
	newest position   // that any gateway has
	last   time.Time  // when one was applied
	// steps are the revisions that not all gateways have reached.
	steps map[position]*step
	// sums are for the metrics.
	one, all took
}

type step struct {
	count                  int
	first, last, committed time.Time
}

const (
	// maxLeap is how many revisions a gateway that left some out is counted for at once.
	maxLeap = 1024
	// maxSteps bounds what is remembered while some gateway gets nowhere.
	maxSteps = 4096
)

func newProgress(gateways int) *progress {
	return &progress{at: make([]position, gateways), steps: map[position]*step{}, one: newTook(), all: newTook()}
}

// applied notes where a gateway is now. It returns the revision if this gateway was the last to get there.
func (p *progress) applied(gateway int, to position, committed, now time.Time) (Reached, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.at[gateway]
	p.at[gateway], p.last = to, now
	if to.epoch != p.newest.epoch || to.revision > p.newest.revision {
		p.newest = to
	}
	if !committed.IsZero() {
		p.one.add(now.Sub(committed))
	}
	first := to.revision
	if from.epoch == to.epoch {
		first = max(from.revision+1, to.revision-maxLeap)
	}
	for r := first; r <= to.revision; r++ {
		p.count(position{to.epoch, r}, now)
	}
	s := p.steps[to]
	if s == nil { // it went back
		return Reached{}, false
	}
	if s.committed.IsZero() {
		s.committed = committed
	}
	if s.count < len(p.at) {
		return Reached{}, false
	}
	return p.reached(to, s), true
}

func (p *progress) count(at position, now time.Time) {
	s := p.steps[at]
	if s == nil {
		p.bound()
		s = &step{first: now}
		p.steps[at] = s
	}
	s.count++
	s.last = now
}

// bound forgets the older half when there is too much.
func (p *progress) bound() {
	if len(p.steps) < maxSteps {
		return
	}
	var all []position
	for at := range p.steps {
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b position) int { return p.steps[a].first.Compare(p.steps[b].first) })
	for _, at := range all[:len(all)/2] {
		delete(p.steps, at)
	}
}

// reached makes the event and forgets the revision and those before.
func (p *progress) reached(at position, s *step) Reached {
	for other := range p.steps {
		if other.epoch != at.epoch || other.revision <= at.revision {
			delete(p.steps, other)
		}
	}
	r := Reached{Event: "revision", Epoch: at.epoch, Revision: at.revision, Gateways: len(p.at), First: s.first, Last: s.last}
	if !s.committed.IsZero() {
		took := s.last.Sub(s.committed)
		r.CommittedAt, r.Seconds = &s.committed, took.Seconds()
		p.all.add(took)
	}
	return r
}

// standing is where the fleet is.
type standing struct {
	newest position
	// there is how many gateways are at the newest revision, configured how many have any, lowest the oldest of these.
	there, configured int
	lowest            int64
	last              time.Time
}

func (p *progress) standing() standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := standing{newest: p.newest, lowest: p.newest.revision, last: p.last}
	for _, at := range p.at {
		if at == (position{}) {
			continue
		}
		s.configured++
		if at == p.newest {
			s.there++
		}
		if at.epoch == p.newest.epoch {
			s.lowest = min(s.lowest, at.revision)
		}
	}
	return s
}

// times are what the metrics show.
func (p *progress) times() (one, all took) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.one.clone(), p.all.clone()
}

// queue is what waits to be written.
type queue struct {
	mu    sync.Mutex // guards items
	items []any
}

// maxQueue bounds what waits for a reader that does not read.
const maxQueue = 10_000

func (q *queue) put(item any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) < maxQueue {
		q.items = append(q.items, item)
	}
}

func (q *queue) take() []any {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}
