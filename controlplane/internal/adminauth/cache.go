package adminauth

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnavailable says that it cannot be known now whether a token is good.
var ErrUnavailable = errors.New("token source unavailable")

// Loader reads all admin tokens from where they are stored.
type Loader interface {
	AdminTokens(ctx context.Context) ([]Token, error)
}

const (
	// loadEvery bounds how stale the cache can be when wake-ups are lost.
	loadEvery = 5 * time.Second
	// loadPause is the least time between two loads, so that unknown tokens cannot be used to load the database: at most
	// four reads a second, however many are presented.
	loadPause   = 250 * time.Millisecond
	loadTimeout = 5 * time.Second
)

// Cache holds all admin tokens in memory. Tokens it knows are answered without the database, so they keep working while it
// is down; a token it does not know is looked for in a load that begins after the question, so that a token works at once
// on every replica, and during an outage is never called invalid.
type Cache struct {
	// Set once.
	loader Loader
	log    *slog.Logger

	tokens atomic.Pointer[map[string]Token] // nil until first loaded

	mu      sync.Mutex
	waiting *load // guarded by mu: the load that has not begun yet
	asked   chan struct{}
}

// load is one coming read of the tokens that any number of callers wait for.
type load struct {
	done chan struct{}
	err  error // set before done is closed
}

// NewCache returns an empty cache; Run fills it.
func NewCache(loader Loader, log *slog.Logger) *Cache {
	return &Cache{loader: loader, log: log, asked: make(chan struct{}, 1)}
}

// Run keeps the cache fresh until ctx ends: on every wake-up, every few seconds, and when an unknown token is presented.
func (c *Cache) Run(ctx context.Context, wake <-chan struct{}) error {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for {
		c.load(ctx)
		select { // the pause; also the time in which callers gather for the next load
		case <-ctx.Done():
			return nil
		case <-time.After(loadPause):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.asked:
		case _, ok := <-wake:
			if !ok {
				wake = nil
			}
		}
	}
}

// Token returns the token with that id. The error is ErrUnavailable if the token is not known and the store could not be
// asked.
func (c *Cache) Token(ctx context.Context, id string) (Token, bool, error) {
	if t, ok := c.Known(id); ok {
		return t, true, nil
	}
	if err := c.Refresh(ctx); err != nil {
		return Token{}, false, err
	}
	t, ok := c.Known(id)
	return t, ok, nil
}

// Refresh waits for a load that begins after the call.
func (c *Cache) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	l := c.join()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return ErrUnavailable
	}
}

// Known returns the token with that id if it is in memory.
func (c *Cache) Known(id string) (Token, bool) {
	tokens := c.tokens.Load()
	if tokens == nil {
		return Token{}, false
	}
	t, ok := (*tokens)[id]
	return t, ok
}

func (c *Cache) join() *load {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = &load{done: make(chan struct{})}
	}
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return c.waiting
}

func (c *Cache) load(ctx context.Context) {
	c.mu.Lock()
	l := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	err := c.fetch(ctx)
	if err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "admin tokens not refreshed", "err", err)
	}
	if l == nil {
		return
	}
	if err != nil {
		l.err = ErrUnavailable
	}
	close(l.done)
}

func (c *Cache) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	list, err := c.loader.AdminTokens(ctx)
	if err != nil {
		return err
	}
	tokens := make(map[string]Token, len(list))
	for _, t := range list {
		tokens[t.ID] = t
	}
	c.tokens.Store(&tokens)
	return nil
}
