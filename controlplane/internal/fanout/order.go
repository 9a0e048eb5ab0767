package fanout

import (
	"maps"
	"time"
)

const (
	// lead is how far ahead of the others those who are first get a change: about what a gateway needs to apply one.
	lead = 3 * time.Millisecond
	// crowd is how many streams there have to be for the order to matter: fewer are served within the lead.
	crowd = 64
)

// order says which streams get a change first. Sending to a thousand gateways takes tens of milliseconds, and where they share
// a machine or a line all of them wait for each other; those with most of the traffic should not. The group's lock guards it.
type order struct {
	// ids are the members that are first.
	ids map[string]bool
	// news is closed and replaced when there may be something for them.
	news chan struct{}
	// due says that the others are about to be woken.
	due bool
}

// First makes the members of these ids the first that get a change, from the next one on. In a group of few streams, or
// without any of them, all get it at once.
func (g *Group) First(ids []string) {
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if maps.Equal(g.order.ids, set) {
		return
	}
	g.order.ids = set
	g.wake() // so that each waits in its place
}

// First names the members of a group that are the first to get its changes.
func (h *Hub) First(group string, ids []string) {
	h.mu.Lock()
	m := h.members[group]
	h.mu.Unlock()
	if m != nil {
		m.group.First(ids)
	}
}

// news is closed when there may be something for the stream. The lock is held.
func (g *Group) news(s *Stream) <-chan struct{} {
	if g.order.ids[s.who.ID] {
		return g.order.news
	}
	return g.changed
}

// wake tells all streams. The lock is held.
func (g *Group) wake() {
	close(g.order.news)
	g.order.news = make(chan struct{})
	close(g.changed)
	g.changed = make(chan struct{})
}

// announce tells all streams of a change, in order. The lock is held.
func (g *Group) announce() {
	if g.streams < crowd || len(g.order.ids) == 0 {
		g.wake()
		return
	}
	close(g.order.news)
	g.order.news = make(chan struct{})
	if g.order.due {
		return
	}
	g.order.due = true
	time.AfterFunc(lead, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.order.due = false
		g.wake() // also who has become one of the others since
	})
}
