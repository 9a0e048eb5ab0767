package syncclient

import (
	"context"
	"crypto"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/shared/mtls"
)

// Cache keeps the last configuration over restarts. None of its methods but Open may wait.
type Cache interface {
	// Open returns the set that was kept for the gateway, sealed under its key.
	Open(id mtls.ID, key crypto.Signer) (*state.Set, error)
	// Keep makes the set the one to be kept; the control plane stands behind it now.
	Keep(id mtls.ID, key crypto.Signer, set *state.Set)
	// Serve says whether the set in force is the cache's and no control plane has confirmed it.
	Serve(fromCache bool)
}

const (
	// cacheWait is how long a start waits for the control plane before it uses the cache: longer than a start takes with a
	// control plane that is there, shorter than anybody waits for a gateway.
	cacheWait = 3 * time.Second
	// confirmEvery is how often a live stream confirms what is kept, so that its age counts from the end of the stream and
	// not from the last change.
	confirmEvery = time.Minute
)

// starting is what decides whether a start uses the cache.
type starting struct {
	// with is the identity that the process began with: what was kept is sealed under its key, even if it has been renewed
	// since. Set once.
	with *identity
	// failed is closed when no address could be connected to, or the gateway was refused.
	failed chan struct{}
	// live is closed when the control plane has confirmed what is in force, or sent it.
	live chan struct{}

	fail, arrive sync.Once

	// Of the connecting goroutine.
	failures int
	// barred is the answer of a control plane that refuses this gateway; read after failed is closed.
	barred error
}

func newStarting() *starting {
	return &starting{failed: make(chan struct{}), live: make(chan struct{})}
}

// missed notes an attempt to connect that failed. Only when every address had its turn is there no control plane; but what
// one says of this gateway all would.
func (s *starting) missed(err error, addresses int) {
	s.failures++
	refused := status.Code(err) == codes.PermissionDenied
	if !refused && s.failures < addresses {
		return
	}
	s.fail.Do(func() {
		if refused {
			s.barred = err
		}
		close(s.failed)
	})
}

// startFromCache puts the cache's set into force if the control plane is not there.
func (c *Client) startFromCache(ctx context.Context) error {
	if c.cfg.Cache == nil || c.starting.with == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.starting.live:
		return nil
	case <-c.starting.failed:
		if err := c.starting.barred; err != nil {
			c.cfg.Log.ErrorContext(ctx, "the sealed cache is not used: the control plane refuses this gateway", "err", err)
			return nil
		}
	case <-time.After(cacheWait):
	}
	id := c.starting.with
	key, ok := id.cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil
	}
	set, err := c.cfg.Cache.Open(id.id, key)
	if err != nil {
		c.cfg.Log.ErrorContext(ctx, "no control plane, and nothing to start from; waiting for it", "err", err)
		return nil
	}
	if c.resume(set) {
		c.cfg.Log.WarnContext(ctx, "no control plane; serving from the sealed cache", "revision", set.Revision)
	}
	return nil
}

// resume goes on from the cache's set, unless the control plane was first.
func (c *Client) resume(set *state.Set) bool {
	c.folding.Lock()
	defer c.folding.Unlock()
	if !c.folder.Start(set) {
		return false
	}
	c.cfg.Cache.Serve(true)
	c.offer(set)
	return true
}

// confirmed notes that the control plane stands behind the newest set. The caller holds folding, so that it cannot come
// between a cache's set and its being told as such.
func (c *Client) confirmed() {
	c.starting.arrive.Do(func() {
		close(c.starting.live)
		if c.cfg.Cache != nil {
			c.cfg.Cache.Serve(false)
		}
	})
}

// accepted notes that the control plane has answered. It does so when it has compared where the gateway stands with its own
// state, so one that goes on from a set is told at once what is newer, or nothing.
func (c *Client) accepted(resumed bool) {
	if !resumed {
		return
	}
	c.folding.Lock()
	c.confirmed()
	c.folding.Unlock()
	c.reaffirm()
}

// keep hands the set in force to the cache, if it came from the control plane or was confirmed by it, and there is none
// newer.
func (c *Client) keep() {
	if c.cfg.Cache == nil {
		return
	}
	select {
	case <-c.starting.live:
	default:
		return
	}
	c.mu.Lock()
	set := c.applied
	c.mu.Unlock()
	id := c.identity.Load()
	if set == nil || set != c.newest.Load() || id == nil {
		return
	}
	if key, ok := id.cert.PrivateKey.(crypto.Signer); ok {
		c.cfg.Cache.Keep(id.id, key, set)
	}
}

// reaffirm keeps what is in force anew: the control plane stands behind it now, or the identity has another key. It does
// nothing while the control plane is not heard, or sends what does not add up.
func (c *Client) reaffirm() {
	if s := c.Status(); s.Connected && !s.Distrusted {
		c.keep()
	}
}

// confirm has what is in force kept as confirmed for as long as the session lives.
func (s *session) confirm(ctx context.Context) error {
	ticker := time.NewTicker(confirmEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.client.reaffirm()
		}
	}
}
