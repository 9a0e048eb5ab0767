package snapshot

import (
	"context"
	"errors"
)

// ErrTooOld says that a cursor is further behind than changes are kept: its owner has to take a new view.
var ErrTooOld = errors.New("the cursor is too far behind")

// Cursor follows the changes of a group after a view. It belongs to one goroutine.
type Cursor struct {
	group    *Group
	epoch    uint64
	revision int64
}

// Subscribe returns the current view and a cursor at it. It must not be called before the first CatchUp.
func (g *Group) Subscribe() (*View, *Cursor) {
	view := g.View()
	return view, &Cursor{group: g, epoch: view.Epoch, revision: view.Revision}
}

// Next returns the change after the last one it returned, waiting until there is one. A change of the epoch, a reload,
// or a follower that is too slow ends in ErrTooOld.
func (c *Cursor) Next(ctx context.Context) (Change, error) {
	for {
		change, ok, wake, err := c.poll()
		if ok || err != nil {
			return change, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Change{}, context.Cause(ctx)
		}
	}
}

func (c *Cursor) poll() (change Change, ok bool, wake <-chan struct{}, err error) {
	g := c.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.view.Epoch != c.epoch {
		return Change{}, false, nil, ErrTooOld
	}
	if g.view.Revision == c.revision {
		return Change{}, false, g.wake, nil
	}
	first := g.window[0].Revision
	at := c.revision + 1 - first
	if at < 0 || at >= int64(len(g.window)) || g.window[at].Reset {
		return Change{}, false, nil, ErrTooOld
	}
	change = g.window[at]
	c.revision = change.Revision
	return change, true, nil, nil
}
