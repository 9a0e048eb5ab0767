package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/conn"
)

var errTooMany = errors.New("too many connections")

// maxHandshakes bounds the TLS handshakes under way: each costs far more than the request that follows.
const maxHandshakes = 4096

// caps bound the clients' connections. What comes beyond is closed at once: that costs less than to make it wait.
type caps struct {
	open, handshakes atomic.Int64
	refused          atomic.Uint64

	mu        sync.Mutex
	perClient map[netip.Addr]int // guarded by mu
}

// client is a connection as it was accepted. It knows who the client is when a proxy has said so, and is counted until it
// is closed.
type client struct {
	*net.TCPConn
	prompt  *conn.Prompt // reads and writes for TLS; nil: not over TLS, or there is no such way
	caps    *caps
	remote  netip.AddrPort
	address net.Addr
	claimed bool // counted for its address
	once    sync.Once
}

// admit counts a connection, or closes it and returns nil if there are limit already; 0: no limit.
func (c *caps) admit(raw net.Conn, limit int) *client {
	tcp, ok := raw.(*net.TCPConn)
	if n := c.open.Add(1); !ok || limit > 0 && n > int64(limit) {
		c.open.Add(-1)
		c.refused.Add(1)
		_ = raw.Close()
		return nil
	}
	out := &client{TCPConn: tcp, caps: c, address: raw.RemoteAddr()}
	if a, ok := out.address.(*net.TCPAddr); ok {
		out.remote = a.AddrPort()
	}
	return out
}

// claim counts a connection for its client's address.
func (c *caps) claim(conn *client, limit int) error {
	if limit <= 0 {
		return nil
	}
	a := conn.remote.Addr().Unmap().WithZone("")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.perClient[a] >= limit {
		c.refused.Add(1)
		return errTooMany
	}
	if c.perClient == nil {
		c.perClient = map[netip.Addr]int{}
	}
	c.perClient[a]++
	conn.claimed = true
	return nil
}

// handshake counts a handshake, unless there are too many.
func (c *caps) handshake() bool {
	if c.handshakes.Add(1) > maxHandshakes {
		c.handshakes.Add(-1)
		c.refused.Add(1)
		return false
	}
	return true
}

func (c *client) setRemote(a netip.AddrPort) {
	c.remote, c.address = a, net.TCPAddrFromAddrPort(a)
}

// Read reads into p.
func (c *client) Read(p []byte) (int, error) {
	if c.prompt != nil {
		return c.prompt.Read(p)
	}
	return c.TCPConn.Read(p)
}

// Write writes p.
func (c *client) Write(p []byte) (int, error) {
	if c.prompt != nil {
		return c.prompt.Write(p)
	}
	return c.TCPConn.Write(p)
}

// RemoteAddr returns the client's address.
func (c *client) RemoteAddr() net.Addr { return c.address }

// Close closes the connection and counts it no more.
func (c *client) Close() error {
	c.once.Do(func() {
		c.caps.open.Add(-1)
		if !c.claimed {
			return
		}
		a := c.remote.Addr().Unmap().WithZone("")
		c.caps.mu.Lock()
		defer c.caps.mu.Unlock()
		if c.caps.perClient[a]--; c.caps.perClient[a] <= 0 {
			delete(c.caps.perClient, a)
		}
	})
	return c.TCPConn.Close()
}

const (
	connShards = 16
	// drainCheck is how often it is looked whether all connections have ended.
	drainCheck = 10 * time.Millisecond
)

// connections are those that speak HTTP/1.1 of ours.
type connections struct {
	next   atomic.Uint32
	shards [connShards]connShard
	live   atomic.Int64
}

type connShard struct {
	mu   sync.Mutex
	live map[*h1conn]struct{} // guarded by mu
}

func (s *connections) add(h *h1conn) {
	s.live.Add(1)
	h.shard = &s.shards[s.next.Add(1)%connShards]
	h.shard.mu.Lock()
	defer h.shard.mu.Unlock()
	if h.shard.live == nil {
		h.shard.live = map[*h1conn]struct{}{}
	}
	h.shard.live[h] = struct{}{}
}

func (s *connections) remove(h *h1conn) {
	defer s.live.Add(-1)
	h.shard.mu.Lock()
	defer h.shard.mu.Unlock()
	delete(h.shard.live, h)
}

// each calls do for every connection there is.
func (s *connections) each(do func(h *h1conn)) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for h := range sh.live {
			do(h)
		}
		sh.mu.Unlock()
	}
}

// drain closes connections without a request, waits for the others, and cuts those that are left when ctx ends.
func (s *connections) drain(ctx context.Context) {
	t := time.NewTicker(drainCheck)
	defer t.Stop()
	for s.live.Load() > 0 {
		s.each(func(h *h1conn) { h.leave() }) // again and again: handshakes still end
		select {
		case <-t.C:
		case <-ctx.Done():
			s.each(func(h *h1conn) { h.conn.Abort() })
			return
		}
	}
}
