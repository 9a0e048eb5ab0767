// Package inbox keeps which groups are to be looked at, for work that a commit brings: the write path wakes, workers take. No
// group is looked at by two at once, and one that is woken meanwhile is looked at again. Packages secretsource and issuance
// work by it; background jobs do what a replica that ends leaves undone.
package inbox

import (
	"context"
	"slices"
	"sync"
)

// Inbox is safe for concurrent use.
type Inbox struct {
	signal chan struct{}

	mu     sync.Mutex
	groups []string        // guarded by mu
	busy   map[string]bool // guarded by mu: being looked at
}

// New returns an empty one.
func New() *Inbox { return &Inbox{signal: make(chan struct{}, 1), busy: map[string]bool{}} }

// Wake notes a group. It does not wait.
func (i *Inbox) Wake(group string) {
	i.mu.Lock()
	if !slices.Contains(i.groups, group) {
		i.groups = append(i.groups, group)
	}
	i.mu.Unlock()
	i.ring()
}

func (i *Inbox) ring() {
	select {
	case i.signal <- struct{}{}:
	default:
	}
}

// Next waits for a group that is not being looked at, the one that was woken first; false: ctx ended. Done has to follow.
func (i *Inbox) Next(ctx context.Context) (string, bool) {
	for ctx.Err() == nil {
		if taken := i.take(1); len(taken) > 0 {
			return taken[0], true
		}
		select {
		case <-i.signal:
		case <-ctx.Done():
		}
	}
	return "", false
}

// Rest takes all that Next would return without waiting. Done has to follow for each.
func (i *Inbox) Rest() []string {
	i.mu.Lock()
	most := len(i.groups)
	i.mu.Unlock()
	return i.take(most)
}

// take takes up to so many groups. If others are left another worker is woken: one signal may stand for several groups.
func (i *Inbox) take(most int) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var taken, left []string
	more := false
	for _, group := range i.groups {
		if i.busy[group] || len(taken) == most {
			left = append(left, group)
			more = more || !i.busy[group]
			continue
		}
		i.busy[group] = true
		taken = append(taken, group)
	}
	if i.groups = left; more {
		i.ring()
	}
	return taken
}

// Done says that groups are looked at no more.
func (i *Inbox) Done(groups ...string) {
	i.mu.Lock()
	for _, group := range groups {
		delete(i.busy, group)
	}
	i.mu.Unlock()
	i.ring()
}
