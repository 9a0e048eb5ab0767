package ldapauth

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
)

const (
	memoryShards = 16
	// memoryShard bounds the logins that are remembered: 16,384 in all, of some hundred bytes.
	memoryShardMax = 1024
	// memorySample is how many are looked at to find one that may go.
	memorySample = 8
)

// memory remembers logins that the directory took, under keyed hashes. Logins that it did not take are never remembered: a
// password that was set a moment ago counts at once.
type memory struct {
	shards [memoryShards]memoryShard
	// asked are the logins about which the directory is being asked.
	asked *hostsvc.Flights[answer]
}

// answer is what came of asking about a login: somebody, or a refusal. The zero value says that nothing was found out.
type answer struct {
	who     *person
	refusal *exchange.Refusal
}

type memoryShard struct {
	mu   sync.Mutex
	held map[hostsvc.Proof]remembered // guarded by mu
}

type remembered struct {
	who   *person
	until time.Time
}

func newMemory() *memory { return &memory{asked: hostsvc.NewFlights[answer]()} }

func (m *memory) shard(p *hostsvc.Proof) *memoryShard { return &m.shards[p[0]%memoryShards] }

func (m *memory) get(p *hostsvc.Proof, now time.Time) *person {
	s := m.shard(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.held[*p]
	if !ok || !now.Before(r.until) {
		return nil
	}
	return r.who
}

func (m *memory) put(p *hostsvc.Proof, who *person, until time.Time) {
	s := m.shard(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[hostsvc.Proof]remembered{}
	}
	if _, ok := s.held[*p]; !ok && len(s.held) >= memoryShardMax {
		s.evict()
	}
	s.held[*p] = remembered{who, until}
}

// evict makes room: of a few at random that goes which would be forgotten first. s.mu is held.
func (s *memoryShard) evict() {
	var first hostsvc.Proof
	var until time.Time
	n := 0
	for p, r := range s.held {
		if n == 0 || r.until.Before(until) {
			first, until = p, r.until
		}
		if n++; n == memorySample {
			break
		}
	}
	delete(s.held, first)
}

// made is the principal that was made of a person, and from which table of consumers: with another one it is made again, so that
// a consumer that is gone is nobody from then on.
type made struct{ last atomic.Pointer[madeFrom] }

type madeFrom struct {
	generation *generation // of the table of consumers
	principal  *exchange.Principal
	refusal    *exchange.Refusal
}

// generation stands for a table of consumers without keeping it: what is remembered of somebody who never comes again must not
// hold a whole configuration.
type generation struct{ _ byte }

// generations hands out one generation for one table.
type generations struct{ now atomic.Pointer[current] }

type current struct {
	directory  exchange.Directory
	generation *generation
}

func (g *generations) of(d exchange.Directory) *generation {
	if now := g.now.Load(); now != nil && now.directory == d {
		return now.generation
	}
	next := &current{directory: d, generation: &generation{}}
	g.now.Store(next)
	return next.generation
}

// principal says as whom a person calls here.
func (p *ldapAuth) principal(who *person, d exchange.Directory) (*exchange.Principal, *exchange.Refusal) {
	g := p.generations.of(d)
	if m := who.made.last.Load(); m != nil && m.generation == g {
		return m.principal, m.refusal
	}
	m := &madeFrom{generation: g}
	m.principal, m.refusal = p.make(who, d)
	if m.refusal != refuseIncomplete {
		who.made.last.Store(m)
	}
	return m.principal, m.refusal
}

func (p *ldapAuth) make(who *person, d exchange.Directory) (*exchange.Principal, *exchange.Refusal) {
	var known *exchange.Principal
	for _, by := range p.by {
		if known == nil && who.name != "" {
			known = d.Consumer(by, []byte(who.name))
		}
	}
	made := exchange.Principal{Kind: exchange.KindUser}
	switch {
	case known != nil:
		made = *known
	case !d.Complete(""):
		return nil, refuseIncomplete
	case !p.optional:
		return nil, refuseNoConsumer
	}
	if who.outside {
		return nil, refuseGroups
	}
	made.How, made.Own().Subject = policyType, who.dn
	if p.groups != nil {
		made.Dynamic = true
		made.Groups = slices.Clone(made.Groups)
		for _, g := range who.groups {
			if !slices.Contains(made.Groups, g) {
				made.Groups = append(made.Groups, g)
			}
		}
	}
	made.Dynamic = made.Dynamic || known == nil
	return &made, nil
}
