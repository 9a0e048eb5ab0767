package syncclient_test

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/dataplane/internal/sealedcache"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/syncclient"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/sealedset"
)

// cached is a gateway's directories, over several of its lives.
type cached struct {
	identity, dir string
	maxAge        time.Duration
	cache         *sealedcache.Cache
	opened        int
}

// Open implements syncclient.Cache and counts.
func (d *cached) Open(id mtls.ID, key crypto.Signer) (*state.Set, error) {
	d.opened++
	return d.cache.Open(id, key)
}
func (d *cached) Keep(id mtls.ID, key crypto.Signer, set *state.Set) { d.cache.Keep(id, key, set) }
func (d *cached) Serve(fromCache bool)                               { d.cache.Serve(fromCache) }

// life starts a gateway whose cache is in the directories. before may be nil.
func (d *cached) life(t *testing.T, c *control, before func(*syncclient.Config)) *world {
	t.Helper()
	d.opened = 0
	d.cache = sealedcache.New(sealedcache.Config{
		Dir: d.dir, MaxAge: d.maxAge, Now: time.Now, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.cache.Run(ctx) }()
	w := start(t, c, func(cfg *syncclient.Config) {
		cfg.IdentityDir, cfg.Cache = d.identity, d
		if before != nil {
			before(cfg)
		}
	})
	end := w.end
	w.end = func() {
		end()
		cancel()
		<-done
	}
	return w
}

// firstLife has a gateway keep revision 1.
func (d *cached) firstLife(t *testing.T, c *control) {
	t.Helper()
	c.src.Change([]statetest.Record{route("u1", "a", "1"), route("u2", "b", "2")}, nil)
	w := d.life(t, c, nil)
	w.until(t, 1)
	<-c.hellos
	synctest.Wait()
	w.end()
	if d.opened != 0 {
		t.Error("the cache was opened with a control plane there")
	}
}

// away makes the control plane unreachable until back is called.
func away() (edit func(*syncclient.Config), back func()) {
	there := make(chan struct{})
	return func(cfg *syncclient.Config) {
		dial := cfg.Dial
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			select {
			case <-there:
				return dial(ctx, address)
			default:
				return nil, errors.New("nobody is there")
			}
		}
	}, func() { close(there) }
}

func cacheTest(t *testing.T, f func(t *testing.T, c *control, d *cached)) {
	t.Helper()
	d := &cached{identity: t.TempDir(), dir: t.TempDir(), maxAge: 24 * time.Hour}
	synctest.Test(t, func(t *testing.T) { f(t, newControl(t), d) })
}

func TestAStartWithoutAControlPlaneUsesTheCacheAndThenGoesOnFromIt(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.firstLife(t, c)
		edit, back := away()
		begun := time.Now()
		w := d.life(t, c, edit)
		defer w.end()
		if set := w.until(t, 1); set.Len("routes") != 2 || time.Since(begun) > time.Second {
			t.Errorf("%d routes after %s", set.Len("routes"), time.Since(begun))
		}
		if !d.cache.State().Serving {
			t.Error("it does not say that it serves from the cache")
		}
		c.set(func() { c.src.Change([]statetest.Record{route("u3", "c", "3")}, nil) })
		back()
		set := w.until(t, 2)
		if h := <-c.hellos; h.GetRevision() != 1 || h.GetEpoch() != 1 || len(h.GetDigest()) != 32 {
			t.Errorf("hello = %v, want to go on from revision 1", h)
		}
		if set.Len("routes") != 3 || d.cache.State().Serving {
			t.Errorf("%d routes; from the cache: %t", set.Len("routes"), d.cache.State().Serving)
		}
	})
}

func TestAControlPlaneWithNothingNewConfirmsTheCache(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.firstLife(t, c)
		edit, back := away()
		w := d.life(t, c, edit)
		defer w.end()
		w.until(t, 1)
		back()
		<-c.hellos
		synctest.Wait()
		if d.cache.State().Serving || len(w.applied) != 0 {
			t.Errorf("from the cache: %t, applied again: %d", d.cache.State().Serving, len(w.applied))
		}
	})
}

// A control plane that can be connected to and says nothing must not keep a gateway from starting, nor an older revision
// that it then has from being refused.
func TestASilentControlPlaneIsWaitedForABoundedTime(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.firstLife(t, c)
		begun := time.Now()
		w := d.life(t, c, func(cfg *syncclient.Config) {
			cfg.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		defer w.end()
		w.until(t, 1)
		if took := time.Since(begun); took < 2*time.Second || took > 4*time.Second {
			t.Errorf("the cache was used after %s", took)
		}
	})
}

func TestAnOlderRevisionThanTheCachesIsRefused(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.firstLife(t, c)
		edit, back := away()
		w := d.life(t, c, edit)
		defer w.end()
		w.until(t, 1)
		c.set(func() { c.src = statetest.NewSource(1) }) // of the same epoch, at revision 0
		back()
		<-c.hellos
		synctest.Wait()
		if st := w.client.Status(); st.Rewound == 0 || st.Revision != 1 {
			t.Errorf("revision %d, %d refused", st.Revision, st.Rewound)
		}
	})
}

func TestAGatewayThatIsRefusedDoesNotUseItsCache(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.firstLife(t, c)
		<-time.After(2 * time.Hour) // the certificate has expired
		c.set(func() { c.refuse = status.Error(codes.PermissionDenied, "the gateway is revoked") })
		w := d.life(t, c, nil)
		defer w.end()
		<-time.After(10 * time.Second)
		if d.opened != 0 || len(w.applied) != 0 {
			t.Errorf("opened %d times, applied %d sets", d.opened, len(w.applied))
		}
	})
}

func TestAnExpiredCertificateOpensTheCacheUntilItIsTooOld(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.firstLife(t, c)
		edit, _ := away()
		for _, tt := range []struct {
			wait time.Duration
			want sealedset.Reason
		}{{2 * time.Hour, ""}, {23 * time.Hour, sealedset.TooOld}} {
			<-time.After(tt.wait)
			w := d.life(t, c, edit)
			<-time.After(10 * time.Second)
			if got := d.cache.State().Refused; got != tt.want || (len(w.applied) == 1) != (tt.want == "") {
				t.Errorf("after %s: refused for %q, %d sets applied", tt.wait, got, len(w.applied))
			}
			w.end()
		}
	})
}

func TestALongStreamKeepsTheCacheYoungAndRenewalsKeepItOpen(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.maxAge, c.ttl = 5*time.Minute, 6*time.Minute
		c.src.Change([]statetest.Record{route("u1", "a", "1")}, nil)
		w := d.life(t, c, nil)
		w.until(t, 1)
		<-time.After(14 * time.Minute) // without a change, with renewals
		w.end()
		if c.count(&c.renewals) == 0 {
			t.Error("the certificate was not renewed")
		}
		edit, _ := away()
		w = d.life(t, c, edit)
		defer w.end()
		<-time.After(time.Second)
		if len(w.applied) != 1 {
			t.Errorf("the cache was not used: %q", d.cache.State().Refused)
		}
	})
}
