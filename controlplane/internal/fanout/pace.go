package fanout

import "time"

// paceBurst is how many changes go out at once before they are held to Limits.Every.
const paceBurst = 20

// pace is how fast changes go out. A gateway spends half a millisecond on what every change brings with it, however small it
// is: being woken, a message, a new configuration, an acknowledgement. In a long burst what has come together goes out
// together. The group's lock guards it.
type pace struct {
	every time.Duration
	// shown is the revision that streams may go up to, of the head's epoch.
	shown int64
	// used is until when changes have been let through, at their pace: at most paceBurst of them ahead of now.
	used time.Time
	// held says that what was not shown yet is going to be.
	held bool
}

// turn takes the next turn and answers how long it is until then.
func (p *pace) turn(now time.Time) time.Duration {
	if p.used.Before(now) {
		p.used = now
	}
	p.used = p.used.Add(p.every)
	return max(0, p.used.Sub(now)-paceBurst*p.every)
}

// paced shows the head to the streams, now or when it is its turn. The lock is held.
func (g *Group) paced() {
	if g.pace.held {
		return // it goes out with those before
	}
	wait := g.pace.turn(time.Now())
	if wait == 0 {
		g.show()
		return
	}
	g.pace.held = true
	time.AfterFunc(wait, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pace.held = false
		g.show()
	})
}

// show lets the streams go up to the head. The lock is held.
func (g *Group) show() {
	if g.pace.shown == g.head.Revision {
		return // a new window has shown it
	}
	g.pace.shown = g.head.Revision
	g.announce()
}
