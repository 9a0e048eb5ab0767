package policy

import (
	"reflect"
	"sync"
)

const (
	// maxShared bounds what is kept of either sort. With more different ones, some are made again.
	maxShared = 1024
	// maxConfig is how long a configuration may be of which the policy is kept, in bytes: what is kept may be of bindings that are
	// gone.
	maxConfig = 1 << 10
)

// Sharing makes one thing of what many bindings and chains have in common: of policies that follow from their configuration
// alone, and of what chains of such policies do. With very many routes that is memory, and above all what a request has to wait
// for: what all routes share is in the processor's caches, what each has of its own is not. It keeps what it has made until there
// is more than it may keep.
type Sharing struct {
	monitor Monitor

	mu       sync.Mutex
	policies map[string]Policy

	overlaysMu sync.Mutex
	overlays   junction
	made       int // junctions
}

// step is what a link does.
type step struct {
	policy Policy
	report bool
}

// junction is where the steps of programs lead to.
type junction struct {
	program *program // that ends here; nil: none does
	next    map[step]*junction
}

// NewSharing returns one that has made nothing yet. The monitor is that of all chains.
func NewSharing(m Monitor) *Sharing { return &Sharing{monitor: m, policies: map[string]Policy{}} }

// Shares says whether a policy with this encoded configuration is shared.
func (s *Sharing) Shares(config []byte) bool { return len(config) <= maxConfig }

// Policy returns the policy of a type that follows from an encoded configuration, which is built if there is none yet.
func (s *Sharing) Policy(typ string, config []byte, build func() (Policy, error)) (Policy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := typ + " " + string(config)
	if p, ok := s.policies[key]; ok {
		return p, nil
	}
	p, err := build()
	if err != nil {
		return nil, err
	}
	if len(s.policies) >= maxShared {
		clear(s.policies)
	}
	s.policies[key] = p
	return p, nil
}

// Overlay is NewOverlay. Chains of links whose policies are all shared do what they do together.
func (s *Sharing) Overlay(links []Link) Chain {
	c := Chain{bindings: bindingsOf(links)}
	if !allShared(links) {
		c.program = programOf(overlayHalf, links, s.monitor)
		return c
	}
	s.overlaysMu.Lock()
	defer s.overlaysMu.Unlock()
	c.program = s.program(links)
	return c
}

func allShared(links []Link) bool {
	for i := range links {
		if l := &links[i]; !l.Shared || reflect.TypeOf(l.Policy).Kind() != reflect.Pointer {
			return false
		}
	}
	return true
}

// program finds what the links do, or makes it.
func (s *Sharing) program(links []Link) *program {
	if s.made >= maxShared {
		s.overlays, s.made = junction{}, 0
	}
	at := &s.overlays
	for i := range links {
		k := step{links[i].Policy, links[i].Report}
		next, ok := at.next[k]
		if !ok {
			if at.next == nil {
				at.next = map[step]*junction{}
			}
			next = &junction{}
			at.next[k] = next
			s.made++
		}
		at = next
	}
	if at.program == nil {
		at.program = programOf(overlayHalf, links, s.monitor)
	}
	return at.program
}
