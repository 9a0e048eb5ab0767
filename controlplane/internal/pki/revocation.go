package pki

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrNotLoaded says that the revoked gateways are not known yet, so that nobody can be let in.
var ErrNotLoaded = errors.New("revocations are not loaded")

// Revocations knows the gateways that are refused. It is filled by Refresh, at the start and whenever another replica
// may have revoked one.
type Revocations struct {
	load func(context.Context) ([]string, error)

	mu      sync.Mutex // guards what follows
	loaded  bool
	revoked map[string]bool
	watches map[string]map[*watch]bool
}

type watch struct{ cut chan struct{} }

// NewRevocations returns a list that asks load for all revoked ids.
func NewRevocations(load func(context.Context) ([]string, error)) *Revocations {
	return &Revocations{load: load, revoked: map[string]bool{}, watches: map[string]map[*watch]bool{}}
}

// Refresh loads the list. A revocation is final: an id that was on it stays.
func (r *Revocations) Refresh(ctx context.Context) error {
	ids, err := r.load(ctx)
	if err != nil {
		return fmt.Errorf("load revocations: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loaded = true
	for _, id := range ids {
		r.add(id)
	}
	return nil
}

// Add takes over a revocation that this replica has just committed.
func (r *Revocations) Add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(id)
}

func (r *Revocations) add(id string) {
	if r.revoked[id] {
		return
	}
	r.revoked[id] = true
	for w := range r.watches[id] {
		close(w.cut)
	}
	delete(r.watches, id)
}

// Revoked says whether the gateway is refused.
func (r *Revocations) Revoked(id string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return true, ErrNotLoaded
	}
	return r.revoked[id], nil
}

// Watch returns a channel that is closed when the gateway is revoked, at once if it is. stop must be called at the end.
func (r *Revocations) Watch(id string) (cut <-chan struct{}, stop func()) {
	w := &watch{cut: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revoked[id] {
		close(w.cut)
		return w.cut, func() {}
	}
	if r.watches[id] == nil {
		r.watches[id] = map[*watch]bool{}
	}
	r.watches[id][w] = true
	return w.cut, func() { r.unwatch(id, w) }
}

func (r *Revocations) unwatch(id string, w *watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.watches[id], w)
	if len(r.watches[id]) == 0 {
		delete(r.watches, id)
	}
}
