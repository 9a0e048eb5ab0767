// Package accesslog writes one JSON line for each exchange. It never makes a request wait for the sink: lines are
// collected in memory, and those that do not fit any more are dropped and counted. It prints no credentials: no query, no
// header values but the user agent and what the settings name, and of the caller only names. Called by the server at the
// end of each exchange.
package accesslog

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
)

const (
	// flushEvery is how long a line waits at most for the writer, flushBytes after how many it does not wait for that:
	// seldom, since a write that may wait wakes the runtime's monitor thread, which then looks around every 20 µs for a
	// millisecond. With 64 KiB that was up to a twenty-fifth of a request's time.
	flushEvery = 100 * time.Millisecond
	flushBytes = 256 << 10
	// bufferBytes has room for an ordinary line more, so that none makes a buffer grow.
	bufferBytes = flushBytes + 8<<10
	// pendingBytes bounds the lines that wait behind a slow sink, of all shards together.
	pendingBytes = 16 << 20
	// keptBuffers is how many empty buffers are kept for the next time many are needed.
	keptBuffers = 32
	maxShards   = 16
	// million is a sample of everything.
	million = 1_000_000
)

// Outcome is what an exchange does not say about its end.
type Outcome struct {
	// Status that was sent; 0 if nothing was.
	Status   int
	BytesIn  int64 // of the request body
	BytesOut int64 // of the response body
	// Code says why the gateway answered itself or the exchange broke off; empty if it did not.
	Code string
	// Aborted: the response is incomplete.
	Aborted bool
	// Settings are those of the runtime that served the exchange; nil before the first: everything is logged, as it is.
	Settings *runtime.AccessLog
	// Route is what the request matched; nil if nothing. It knows which header fields carry credentials.
	Route *runtime.Route
}

// Log collects lines until Run writes them. Each shard is mostly used by one processor, so that exchanges do not wait for
// each other; lines are in order only within a shard.
type Log struct {
	out    io.Writer
	log    *slog.Logger
	shards []shard
	limit  int // full buffers that may wait in a shard
	next   atomic.Uint32
	near   sync.Pool // of *shard: a pool hands out what was last used on the processor it runs on
	empty  chan []byte
	kick   chan struct{}
	lost   atomic.Uint64 // lines that the sink did not take

	key hashKey

	// The rest belongs to Run.
	spare        [][]byte
	torn, failed bool
}

type shard struct {
	mu    sync.Mutex
	buf   []byte   // whole lines
	full  [][]byte // buffers that wait for the writer, before buf
	clock clock
	view  view // of the settings that were used last
	drops atomic.Uint64
	_     [128]byte // keeps neighbours out of each other's cache lines
}

// New returns a log that writes to out.
func New(out io.Writer, log *slog.Logger) *Log {
	n := min(max(goruntime.GOMAXPROCS(0), 2), maxShards)
	l := &Log{
		out: out, log: log, shards: make([]shard, n), limit: pendingBytes / n / flushBytes,
		empty: make(chan []byte, keptBuffers), kick: make(chan struct{}, 1),
	}
	_, _ = rand.Read(l.key[:]) // never fails
	l.near.New = func() any { return &l.shards[int(l.next.Add(1))%n] }
	return l
}

// Dropped returns how many lines were not written because too many waited or the sink failed.
func (l *Log) Dropped() uint64 {
	n := l.lost.Load()
	for i := range l.shards {
		n += l.shards[i].drops.Load()
	}
	return n
}

// Observe logs an exchange. It does not block, and does not keep the exchange or anything of it.
func (l *Log) Observe(x *exchange.Exchange, o Outcome) {
	if !wanted(x, &o) {
		return
	}
	near, ok := l.near.Get().(*shard)
	if !ok {
		near = &l.shards[0]
	}
	l.add(near, x, &o)
	l.near.Put(near)
}

// wanted decides by chance about exchanges that went well. Refusals, failures and what a policy would have refused are
// always logged.
func wanted(x *exchange.Exchange, o *Outcome) bool {
	if o.Settings == nil || o.Settings.Sample >= million {
		return true
	}
	if o.Status < 100 || o.Status >= 400 || o.Aborted || o.Code != "" || len(x.Reports) > 0 {
		return true
	}
	return o.Settings.Sample > 0 && mathrand.IntN(million) < o.Settings.Sample
}

func (l *Log) add(near *shard, x *exchange.Exchange, o *Outcome) {
	s := l.lock(near)
	defer s.mu.Unlock()
	if len(s.buf) >= flushBytes && !l.turn(s) {
		s.drops.Add(1)
		return
	}
	if s.buf == nil {
		s.buf = l.buffer()
	}
	if s.view.of != o.Settings {
		s.view = newView(o.Settings)
	}
	w := line{b: s.buf, view: &s.view, clock: &s.clock, key: &l.key}
	w.exchange(x, o)
	s.buf = w.b // only now: a panic before leaves no half line
	if len(s.buf) >= flushBytes {
		l.turn(s)
	}
}

// turn puts the shard's buffer, which is full, to those that wait for the writer, and says whether there was room.
func (l *Log) turn(s *shard) bool {
	if len(s.full) >= l.limit {
		return false
	}
	s.full, s.buf = append(s.full, s.buf), nil
	select {
	case l.kick <- struct{}{}:
	default:
	}
	return true
}

func (l *Log) buffer() []byte {
	select {
	case b := <-l.empty:
		return b
	default:
		return make([]byte, 0, bufferBytes)
	}
}

func (l *Log) recycle(b []byte) {
	if cap(b) > bufferBytes {
		return // it held a line that was not ordinary
	}
	select {
	case l.empty <- b[:0]:
	default:
	}
}

// lock returns a shard that is locked: near, or another if near is in use, by a goroutine that may not be running now.
func (l *Log) lock(near *shard) *shard {
	if near.mu.TryLock() {
		return near
	}
	for i := range l.shards {
		if s := &l.shards[i]; s.mu.TryLock() {
			return s
		}
	}
	near.mu.Lock() // for one line, or until the writer has taken the buffers
	return near
}

// Run writes lines until ctx ends and then those that are left.
func (l *Log) Run(ctx context.Context) error {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush(true)
			return nil
		case <-l.kick:
			l.flush(false)
		case <-t.C:
			l.flush(true)
		}
	}
}

// flush writes the full buffers of all shards, or everything. A shard is locked only while they are taken.
func (l *Log) flush(everything bool) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		if everything && len(s.buf) > 0 {
			s.full, s.buf = append(s.full, s.buf), nil
		}
		full := s.full
		s.full = l.spare
		s.mu.Unlock()
		for _, lines := range full {
			l.write(lines)
			l.recycle(lines)
		}
		clear(full)
		l.spare = full[:0]
	}
}

// write hands whole lines to the sink. After a line of which the sink took only a part the next begins on a new one.
func (l *Log) write(lines []byte) {
	if l.torn {
		if _, err := l.out.Write([]byte("\n")); err != nil {
			l.fail(lines, err)
			return
		}
		l.torn = false
	}
	n, err := l.out.Write(lines)
	if err != nil {
		n = min(max(n, 0), len(lines))
		l.torn = n > 0 && lines[n-1] != '\n'
		l.fail(lines[n:], err)
		return
	}
	if l.failed {
		l.failed = false
		l.log.Info("access log is written again", "dropped", l.Dropped())
	}
}

// fail counts lines as lost, and tells of the first failure of a row.
func (l *Log) fail(lines []byte, err error) {
	l.lost.Add(uint64(bytes.Count(lines, []byte("\n"))))
	if !l.failed {
		l.failed = true
		l.log.Error("access log cannot be written", "err", fmt.Errorf("write access log: %w", err))
	}
}
