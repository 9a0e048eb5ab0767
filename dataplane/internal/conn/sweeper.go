package conn

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Resolution is how often connections are looked at: deadlines are met up to twice as late.
	Resolution = 100 * time.Millisecond
	// watchAfter is how long the answer to a peer may take before it is looked whether the peer is still there.
	watchAfter = 300 * time.Millisecond
)

// Sweeper watches the deadlines of many connections with one goroutine.
type Sweeper struct {
	start  time.Time
	now    atomic.Int64
	next   atomic.Uint32
	shards []shard
}

type shard struct {
	mu    sync.Mutex
	conns []*Conn // guarded by mu
	_     [64]byte
}

// NewSweeper returns a sweeper. It does nothing before Run.
func NewSweeper() *Sweeper {
	s := &Sweeper{start: time.Now(), shards: make([]shard, 8*runtime.GOMAXPROCS(0))}
	s.now.Store(1)
	return s
}

// Now is the sweeper's clock: nanoseconds since it was made, exact to its resolution.
func (s *Sweeper) Now() int64 { return s.now.Load() }

// Run looks at all connections until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	t := time.NewTicker(Resolution)
	defer t.Stop()
	var batch []*Conn
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			batch = s.sweep(batch)
		}
	}
}

func (s *Sweeper) sweep(batch []*Conn) []*Conn {
	now := int64(time.Since(s.start)) + 1
	s.now.Store(now)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		batch = append(batch[:0], sh.conns...)
		sh.mu.Unlock()
		for _, c := range batch {
			c.sweep(now)
		}
		clear(batch)
	}
	return batch
}

// Len returns how many connections are watched.
func (s *Sweeper) Len() int {
	n := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.conns)
		sh.mu.Unlock()
	}
	return n
}

func (s *Sweeper) add(c *Conn) {
	c.shard = &s.shards[s.next.Add(1)%uint32(len(s.shards))]
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	c.index = len(c.shard.conns)
	c.shard.conns = append(c.shard.conns, c)
}

// remove forgets the connection; doing so twice does no harm.
func (s *Sweeper) remove(c *Conn) {
	sh := c.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c.index < 0 {
		return
	}
	last := len(sh.conns) - 1
	sh.conns[c.index] = sh.conns[last]
	sh.conns[c.index].index = c.index
	sh.conns[last] = nil
	sh.conns = sh.conns[:last]
	c.index = -1
}
