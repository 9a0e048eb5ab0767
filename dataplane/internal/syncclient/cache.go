package syncclient

import (
	"context"
	"crypto"
	"sync"
	"sync/atomic"
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

// Fallback is a configuration that the control plane left for gateways that find it gone.
type Fallback interface {
	// Open returns its set.
	Open(ctx context.Context) (*state.Set, error)
	// Seen notes a set that the control plane stands behind, so that none that is older is opened later. It must not wait.
	Seen(set *state.Set)
	// Serve says whether the set in force is the fallback's and no control plane has confirmed it.
	Serve(fromFallback bool)
}

const (
	// cacheWait is how long a start waits for the control plane before it uses what was kept: longer than a start takes with a
	// control plane that is there, shorter than anybody waits for a gateway.
	cacheWait = 3 * time.Second
	// confirmEvery is how often a live stream confirms what is kept, so that its age counts from the end of the stream and
	// not from the last change.
	confirmEvery = time.Minute
	// firstTry and lastTry bound the pauses between tries of the fallback.
	firstTry, lastTry = 2 * time.Second, time.Minute
)

// starting is what decides whether a start uses what was kept.
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
	// barred is the answer of a control plane that refuses this gateway.
	barred atomic.Pointer[error]
}

func newStarting() *starting {
	return &starting{failed: make(chan struct{}), live: make(chan struct{})}
}

// missed notes an attempt to connect that failed. Only when every address had its turn is there no control plane; but what
// one says of this gateway all would.
func (s *starting) missed(err error, addresses int) {
	s.failures++
	refused := status.Code(err) == codes.PermissionDenied
	if refused {
		s.barred.Store(&err)
	} else if s.failures < addresses {
		return
	}
	s.fail.Do(func() { close(s.failed) })
}

// startAlone puts what was kept into force if the control plane is not there: the cache's set, or else the bundle's.
func (c *Client) startAlone(ctx context.Context) error {
	if c.cfg.Cache == nil && c.cfg.Fallback == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.starting.live:
		return nil
	case <-c.starting.failed:
	case <-time.After(cacheWait):
	}
	if c.barred(ctx) {
		return nil
	}
	if c.startFromCache(ctx) || c.cfg.Fallback == nil {
		return nil
	}
	c.startFromBundle(ctx)
	return nil
}

// barred says whether a control plane has refused this gateway, which then starts from nothing.
func (c *Client) barred(ctx context.Context) bool {
	err := c.starting.barred.Load()
	if err == nil {
		return false
	}
	c.cfg.Log.ErrorContext(ctx, "nothing that was kept is used: the control plane refuses this gateway", "err", *err)
	return true
}

// startFromCache says whether there is something in force now.
func (c *Client) startFromCache(ctx context.Context) bool {
	id := c.starting.with
	if c.cfg.Cache == nil || id == nil {
		return false
	}
	key, ok := id.cert.PrivateKey.(crypto.Signer)
	if !ok {
		return false
	}
	set, err := c.cfg.Cache.Open(id.id, key)
	if err != nil {
		c.cfg.Log.ErrorContext(ctx, "no control plane, and no sealed cache to start from", "err", err)
		return false
	}
	if c.resume(set, c.cfg.Cache.Serve) {
		c.cfg.Log.WarnContext(ctx, "no control plane; serving from the sealed cache", "revision", set.Revision)
	}
	return true
}

// startFromBundle tries until there is something in force: a bundle, or its key, may come late.
func (c *Client) startFromBundle(ctx context.Context) {
	for pause := firstTry; ; pause = min(2*pause, lastTry) {
		set, err := c.cfg.Fallback.Open(ctx)
		// The control plane may have been heard meanwhile.
		if ctx.Err() != nil || c.barred(ctx) {
			return
		}
		if err == nil {
			if c.resume(set, c.cfg.Fallback.Serve) {
				c.cfg.Log.WarnContext(ctx, "no control plane; serving from the fallback bundle", "revision", set.Revision)
			}
			return
		}
		c.cfg.Log.ErrorContext(ctx, "no control plane, and no fallback bundle to start from; waiting for either", "err", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return
		case <-c.starting.live:
			return
		case <-time.After(pause):
		}
	}
}

// resume goes on from a set that was kept, unless the control plane was first.
func (c *Client) resume(set *state.Set, serve func(bool)) bool {
	c.folding.Lock()
	defer c.folding.Unlock()
	if !c.folder.Start(set) {
		return false
	}
	serve(true)
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
		if c.cfg.Fallback != nil {
			c.cfg.Fallback.Serve(false)
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

// keep hands the set in force to the cache and the fallback, if it came from the control plane or was confirmed by it, and there is none
// newer.
func (c *Client) keep() {
	if c.cfg.Cache == nil && c.cfg.Fallback == nil {
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
	if c.cfg.Fallback != nil {
		c.cfg.Fallback.Seen(set)
	}
	if key, ok := id.cert.PrivateKey.(crypto.Signer); ok && c.cfg.Cache != nil {
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
