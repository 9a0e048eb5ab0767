package server

import (
	"cmp"
	"context"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/runtime"
)

const (
	streamShards = 16
	// streamCheck is how often exchanges that last are looked at.
	streamCheck = 250 * time.Millisecond
)

// streams are the exchanges that last: tunnels, and responses that go on beyond their first piece. They end when their
// route or credential is gone or has expired, or when they are as old as the route allows: what is not allowed any more
// must not go on because it had begun.
type streams struct {
	shards [streamShards]streamShard
}

type streamShard struct {
	mu   sync.Mutex
	live []*call // guarded by mu
}

// streamEntry is a call's place among the streams.
type streamEntry struct {
	shard *streamShard // nil: not listed
	index int          // guarded by the shard's mu
	// cutFor is why the stream was ended; guarded by the shard's mu.
	cutFor string
	since  time.Time
	tunnel [2]*conn.Conn
}

func (e *streamEntry) listed() bool { return e.shard != nil }

// reason returns why the stream was cut, else what is given.
func (e *streamEntry) reason(otherwise string) string {
	if e.shard == nil {
		return otherwise
	}
	e.shard.mu.Lock()
	defer e.shard.mu.Unlock()
	if e.cutFor != "" {
		return e.cutFor
	}
	return otherwise
}

// add lists a call. From now on it may be cut.
func (s *streams) add(c *call) {
	id := c.x.ID()
	e := &c.stream
	e.since = c.x.Timings.HeadSent
	sh := &s.shards[id[15]%streamShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e.shard, e.index = sh, len(sh.live)
	sh.live = append(sh.live, c)
}

// remove takes a call off the list, if it is on it.
func (s *streams) remove(c *call) {
	e := &c.stream
	if e.shard == nil {
		return
	}
	sh := e.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last := len(sh.live) - 1
	sh.live[e.index] = sh.live[last]
	sh.live[e.index].stream.index = e.index
	sh.live[last] = nil
	sh.live = sh.live[:last]
	*e = streamEntry{}
}

// run looks after the streams until ctx ends.
func (s *streams) run(ctx context.Context, holder *runtime.Holder) error {
	t := time.NewTicker(streamCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			s.check(holder.Load(), now)
		}
	}
}

func (s *streams) check(rt *runtime.Runtime, now time.Time) {
	if rt == nil {
		return
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, c := range sh.live {
			if c.stream.cutFor != "" {
				continue
			}
			if why := c.outlived(rt, now); why != "" {
				c.stream.cutFor = why
				c.cut()
			}
		}
		sh.mu.Unlock()
	}
}

// outlived says why a stream must end; empty if it may go on.
func (c *call) outlived(rt *runtime.Runtime, now time.Time) string {
	if age := c.route.MaxStreamAge; age > 0 && now.Sub(c.stream.since) > age {
		return "stream_age"
	}
	for _, p := range c.x.Proofs {
		if !p.Expires.IsZero() && !now.Before(p.Expires) {
			return "credential_expired"
		}
	}
	if rt == c.rt {
		return cmp.Or(c.certificateGone(rt, c.route, now), c.proofGone(rt, now))
	}
	r, ok := rt.Routes.Get(c.route.Info.UID)
	if !ok || r.Closed != "" || r.Lost || r.MatchFault != "" || rt.Closed != "" {
		return "route_gone"
	}
	return cmp.Or(c.certificateGone(rt, r, now), c.proofGone(rt, now))
}

// proofGone says why a stream must end if a credential by which it was let in is gone, or is bound to certificates of which
// the client has none.
func (c *call) proofGone(rt *runtime.Runtime, now time.Time) string {
	for _, p := range c.x.Proofs {
		if p.CredentialUID == "" {
			// A token or a directory says who it is; whom that means is configured here.
			if _, ok := rt.Consumers.Get(p.ConsumerUID); p.ConsumerUID != "" && !ok {
				return "consumer_gone"
			}
			continue
		}
		is := rt.Directory.Principal(p.CredentialUID)
		if is == nil {
			return "credential_revoked"
		}
		if is.Bound() != "" && rt.Vouched(is.Bound(), c.secure, now) != nil {
			return clientCertificate
		}
	}
	return ""
}

// clientCertificate is why a stream ends whose client's certificate is not what is wanted.
const clientCertificate = "client_certificate"

// certificateGone says why a stream must end if the client's certificate has expired, or is not what the route wants any more,
// or if those by whom it was believed vouch for it no longer.
func (c *call) certificateGone(rt *runtime.Runtime, r *runtime.Route, now time.Time) string {
	if rt.Admits(r, c.secure, now) != nil {
		return clientCertificate
	}
	for _, authorities := range c.x.Vouched {
		if rt.Vouched(authorities, c.secure, now) != nil {
			return clientCertificate
		}
	}
	return ""
}

// cut ends what the stream reads and writes. Any goroutine may call it while the call is listed.
func (c *call) cut() {
	if t := c.stream.tunnel; t[0] != nil {
		t[0].Abort()
		t[1].Abort()
		return
	}
	c.resp.Abort()
	c.wire.abort()
}
