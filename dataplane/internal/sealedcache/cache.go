// Package sealedcache keeps a gateway's last verified configuration in a file, so that a gateway that starts while no
// control plane is there can serve. The file is sealed under a key wrapped to the gateway's identity key and can only have
// been written by its holder; a small second file remembers which file was written last and when the control plane last
// stood behind it, so that an older one put back is refused. It decides neither when the cache is used nor what is
// compiled, and never holds anybody up: files are written in the background, and a failure is counted and logged, no more.
// Called by syncclient; the app package runs it.
package sealedcache

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/sealedset"
)

const (
	// writePause is the least time between two writes: a burst of changes costs one.
	writePause = 5 * time.Second
	// skew is how far in the future a file may have been written: clocks are set back a little now and then.
	skew = 5 * time.Minute
)

// Config is what a Cache needs.
type Config struct {
	// Dir holds the cache's two files; it is made if need be, and no other gateway may use it.
	Dir string
	// MaxAge is how long ago the control plane may have stood behind a configuration for it to be used.
	MaxAge   time.Duration
	Limits   state.Limits
	Now      func() time.Time
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// State is how the cache does.
type State struct {
	// Serving: the configuration in force is that of the file, and no control plane has confirmed it since.
	Serving bool
	// Confirmed is when a control plane last stood behind what is in the file; zero if that is not known.
	Confirmed time.Time
	// Refused says why the file was not used; empty if it was, or was not asked for.
	Refused sealedset.Reason
	// WriteFailed: the last write failed.
	WriteFailed bool
}

// Cache keeps the configuration of one gateway.
type Cache struct {
	cfg     Config
	files   files
	metrics *metrics

	// wake holds one signal that there is something to write.
	wake chan struct{}

	writing sync.Mutex // held while files are read or written, and guards last
	last    *kept

	mu      sync.Mutex // guards what follows
	pending *kept
	state   State
}

// kept is a set that is to be written, or was, and whose it is.
type kept struct {
	id     mtls.ID
	signer crypto.Signer
	set    *state.Set
	// at is when the control plane stood behind it.
	at time.Time
	// file is the hash of the written file's header.
	file fileID
}

// same says whether the file of k serves for other as well.
func (k *kept) same(other *kept) bool {
	if k == nil || k.set != other.set || k.id != other.id {
		return false
	}
	public, ok := k.signer.Public().(interface{ Equal(x crypto.PublicKey) bool })
	return ok && public.Equal(other.signer.Public())
}

// New returns a cache. Nothing is read or written before Open, Run.
func New(cfg Config) *Cache {
	c := &Cache{cfg: cfg, files: files{dir: cfg.Dir}, wake: make(chan struct{}, 1)}
	c.metrics = newMetrics(cfg.Registry, c.State)
	return c
}

// State returns how the cache does.
func (c *Cache) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *Cache) update(f func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.state)
}

// Serve notes whether the configuration in force is the cache's, unconfirmed by a control plane.
func (c *Cache) Serve(fromCache bool) {
	c.update(func(s *State) { s.Serving = fromCache })
}

// Open returns the set in the file. The error is ErrAbsent if there is none, or a *sealedset.RefusedError that says why it is not to
// be used.
func (c *Cache) Open(id mtls.ID, signer crypto.Signer) (*state.Set, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	k, err := c.open(id, signer)
	if refused, ok := errors.AsType[*sealedset.RefusedError](err); ok {
		c.metrics.refused.WithLabelValues(string(refused.Reason)).Inc()
		c.update(func(s *State) { s.Refused = refused.Reason })
	}
	if err != nil {
		return nil, err
	}
	c.last = k
	c.update(func(s *State) { s.Refused, s.Confirmed = "", k.at })
	return k.set, nil
}

// Keep makes the set the one to be kept, as one that the control plane stands behind now. It never waits for a file: what
// comes while one is written replaces what has not been begun. For the set that is in the file already, only the time is
// written anew.
func (c *Cache) Keep(id mtls.ID, signer crypto.Signer, set *state.Set) {
	c.mu.Lock()
	c.pending = &kept{id: id, signer: signer, set: set, at: c.cfg.Now()}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run writes what is to be kept until ctx ends, and what is left then.
func (c *Cache) Run(ctx context.Context) error {
	c.files.tidy()
	for {
		select {
		case <-ctx.Done():
			c.flush()
			return nil
		case <-c.wake:
		}
		c.flush()
		select {
		case <-ctx.Done():
		case <-time.After(writePause):
		}
	}
}

// flush writes what waits, if anything does. After a failure the next Keep tries again.
func (c *Cache) flush() {
	c.mu.Lock()
	k := c.pending
	c.pending = nil
	c.mu.Unlock()
	if k == nil {
		return
	}
	err := c.write(k)
	c.metrics.writes.Inc()
	c.update(func(s *State) {
		s.WriteFailed = err != nil
		if err == nil {
			s.Confirmed = k.at
		}
	})
	if err != nil {
		c.metrics.writeErrors.Inc()
		c.cfg.Log.Error("sealed cache was not written; a start without a control plane would find an older one or none", "err", err)
		return
	}
	c.cfg.Log.Debug("sealed cache written", "revision", k.set.Revision)
}

// write brings the files to k.
func (c *Cache) write(k *kept) error {
	owner, err := newOwner(k.id, k.signer)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.last.same(k) {
		k.file = c.last.file
		return c.confirm(owner, k)
	}
	sealed, err := newSealed(owner, k.set, k.at)
	if err != nil {
		return err
	}
	// A crash may leave the old file or the new one, so for a while both are those last seen.
	k.file = sealed.id()
	if err := c.writeSeen(owner, seen{have: c.known(owner), next: k.file, confirmed: k.at}); err != nil {
		return err
	}
	if err := c.files.replace(configFile, sealed.writeTo); err != nil {
		return fmt.Errorf("write sealed cache: %w", err)
	}
	return c.confirm(owner, k)
}

// confirm makes k's file the only one that may be opened.
func (c *Cache) confirm(o *owner, k *kept) error {
	if err := c.writeSeen(o, seen{have: k.file, confirmed: k.at}); err != nil {
		return err
	}
	c.last = k
	return nil
}
