package registry

import (
	"context"
	"errors"
	"time"

	"keyward.dev/controlplane/internal/store"
)

const (
	// flushEvery bounds how often a replica writes the row of a group.
	flushEvery = 100 * time.Millisecond
	// gather is how long the first news after a pause wait for company.
	gather = 10 * time.Millisecond
	// renewEvery is how often the row is written without news, so that others see that the replica lives.
	renewEvery = 2 * time.Second
	// staleAfter is when a replica that says nothing is taken for dead.
	staleAfter = 7 * time.Second
	// flushTimeout bounds one round of writing.
	flushTimeout = 10 * time.Second
)

// Run writes news until the context ends, and then a last time: the gateways of this replica are no longer here.
func (r *Registry) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			r.end(ctx)
			return nil
		case <-ticker.C:
		case <-r.news:
			select {
			case <-ctx.Done():
			case <-time.After(gather):
			}
		}
		err := r.flush(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "news of gateways cannot be written; they are kept", "err", err)
		}
		failing = err != nil
	}
}

func (r *Registry) end(ctx context.Context) {
	r.hurry()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err := r.flush(ctx)
	if err == nil {
		err = r.cfg.Notes.DropReports(ctx, r.cfg.Replica, r.cfg.Now().Add(-time.Hour))
	}
	if err != nil {
		r.cfg.Log.WarnContext(ctx, "last news of gateways could not be written", "err", err)
	}
}

// hurry makes everything due that has news.
func (r *Registry) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.groups {
		g.saved = time.Time{}
	}
}

// flush writes what is due. What fails is due again.
func (r *Registry) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	for _, report := range r.dueReports() {
		if err := r.cfg.Notes.SaveReport(ctx, report); err != nil {
			r.again(report.Group)
			return err
		}
	}
	for key, n := range r.takeNotes() {
		if err := r.write(ctx, key, n); err != nil {
			return err
		}
	}
	return nil
}

// dueReports takes the groups that have news, unless their row has just been written, or have been silent for long.
func (r *Registry) dueReports() []store.ReplicaReport {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []store.ReplicaReport
	for name, g := range r.groups {
		since := now.Sub(g.saved)
		if g.dirty && since < flushEvery || !g.dirty && (len(g.live) == 0 || since < renewEvery) {
			continue
		}
		report := store.ReplicaReport{Group: name, Replica: r.cfg.Replica, At: now, Gateways: []store.GatewayReport{}}
		for _, l := range g.live {
			report.Gateways = append(report.Gateways, l.report)
		}
		g.dirty, g.saved = false, now
		due = append(due, report)
	}
	return due
}

func (r *Registry) again(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups[name].dirty, r.groups[name].saved = true, time.Time{}
}

func (r *Registry) takeNotes() map[noteKey]*note {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) == 0 {
		return nil
	}
	notes := r.notes
	r.notes = map[noteKey]*note{}
	for key, n := range notes { // kept until written
		c := *n
		r.notes[key] = &c
	}
	return notes
}

func (r *Registry) write(ctx context.Context, key noteKey, n *note) error {
	if n.hello != nil {
		if err := r.hello(ctx, key, n); err != nil {
			return err
		}
	}
	if n.state != nil {
		if err := r.cfg.Notes.SetGatewayState(ctx, key.group, key.id, *n.state); err != nil && !gone(err) {
			return err
		}
	}
	r.written(key, n)
	return nil
}

// hello notes that a stream opened. Gateways are never forgotten: one that is not there enrolled after the backup from which
// the database was restored. It is noted again, so that it is listed, renewed, and can be revoked.
func (r *Registry) hello(ctx context.Context, key noteKey, n *note) error {
	err := r.cfg.Notes.SetGatewayHello(ctx, key.group, key.id, *n.hello)
	if err == nil || !gone(err) {
		return err
	}
	if err := r.cfg.Changes.Adopt(ctx, key.group, key.id, n.shown); err != nil {
		if errors.Is(err, store.ErrUnavailable) {
			return err
		}
		r.cfg.Log.WarnContext(ctx, "a gateway that is not in the database cannot be noted", "group", key.group, "gateway", key.id, "err", err)
		return nil
	}
	r.cfg.Log.WarnContext(ctx, "a gateway that was not in the database is noted again: it enrolled after the backup that was restored", "group", key.group, "gateway", key.id)
	if err := r.cfg.Notes.SetGatewayHello(ctx, key.group, key.id, *n.hello); err != nil && !gone(err) {
		return err
	}
	return nil
}

// written forgets what was written, unless something newer has come.
func (r *Registry) written(key noteKey, n *note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.notes[key]
	if left.hello == n.hello {
		left.hello = nil
	}
	if left.state == n.state {
		left.state = nil
	}
	if left.hello == nil && left.state == nil {
		delete(r.notes, key)
	}
}
