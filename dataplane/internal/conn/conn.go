// Package conn is a network connection as the HTTP engine uses it, on either side: read buffers that are held only while
// there is something in them, deadlines that cost no system call, and the news that the peer has gone. It knows no HTTP.
// Used by server for clients and by upstream for targets.
package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// expired is what a deadline becomes when it has passed.
const expired = -1

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0) //nolint:gochecknoglobals // a constant, if times could be

// Conn is a TCP connection or TLS over one. One goroutine may read and another write at a time.
type Conn struct {
	net    net.Conn
	socket syscall.RawConn // of the TCP connection below; nil if there is none
	plain  bool            // reads may go to the socket

	sweeper *Sweeper
	shard   *shard
	index   int // in the shard; guarded by its mu

	readBy, writeBy atomic.Int64 // of the sweeper's clock; 0: none
	rests           atomic.Int64 // when Serve began to wait, on the sweeper's clock; 0: it does not, or was looked after

	// fill is what a read from the socket works on; of the reading goroutine.
	fill struct {
		into *Buffer
		n    int
		err  error
		try  func(fd uintptr) bool
	}
	// sent is what a write to the socket works on; of the writing goroutine, as is ask, which writes and then reads.
	sent struct {
		p   []byte
		n   int
		err error
		try func(fd uintptr) bool
	}
	ask struct {
		done bool // all was sent
		try  func(fd uintptr) bool
	}
	// served is the socket while Serve answers from it: who writes then does so before that answer is done.
	served struct {
		fd uintptr
		in bool
	}
	first [1]byte

	mu      sync.Mutex
	watcher Aborter // guarded by mu; told when the peer has gone
	since   int64   // guarded by mu: when it began to watch
	gone    bool    // guarded by mu
}

// Aborter is something that is given up because nobody waits for it any more.
type Aborter interface{ Abort() }

// New returns the connection, which the sweeper watches until Close. c is a TCP connection, a TLS connection over one, or
// anything else, for which Gone is never known.
func New(c net.Conn, s *Sweeper) *Conn {
	w := &Conn{net: c, sweeper: s}
	below := c
	if t, ok := c.(*tls.Conn); ok {
		below = t.NetConn()
	}
	if sc, ok := below.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil && socketReads {
			w.socket, w.plain = raw, below == c
			w.fill.try, w.sent.try, w.ask.try = w.tryFill, w.trySend, w.tryAsk
		}
	}
	s.add(w)
	return w
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.net }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// LocalAddr returns our address.
func (c *Conn) LocalAddr() net.Addr { return c.net.LocalAddr() }

// Close closes the connection.
func (c *Conn) Close() error {
	c.sweeper.remove(c)
	return c.net.Close()
}

// CloseWrite says that nothing more is sent; errors.ErrUnsupported if the connection cannot.
func (c *Conn) CloseWrite() error {
	if w, ok := c.net.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Reset closes the connection so that the peer learns that what it got is not whole: over TCP by a reset instead of an
// orderly end.
func (c *Conn) Reset() error {
	below := c.net
	if t, ok := below.(*tls.Conn); ok {
		below = t.NetConn() // an orderly end of TLS would say that all was sent
	}
	if l, ok := below.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0)
	}
	c.sweeper.remove(c)
	return below.Close()
}

// ReadBy ends reads that are not done after d, with os.ErrDeadlineExceeded; 0: never. It is exact to twice the sweeper's
// resolution and costs next to nothing. It returns false if the deadline before has passed already: then the connection
// cannot be read any more.
func (c *Conn) ReadBy(d time.Duration) bool { return c.setDeadline(&c.readBy, d) }

// WriteBy is ReadBy for writes.
func (c *Conn) WriteBy(d time.Duration) bool { return c.setDeadline(&c.writeBy, d) }

func (c *Conn) setDeadline(by *atomic.Int64, d time.Duration) bool {
	var at int64
	if d > 0 {
		at = c.sweeper.Now() + int64(d+Resolution) // the clock may be that late: never too early
	}
	for {
		old := by.Load()
		if old == expired {
			return false
		}
		if by.CompareAndSwap(old, at) {
			return true
		}
	}
}

// Abort ends what reads and writes are under way, and fails all later ones. Any goroutine may call it.
func (c *Conn) Abort() {
	c.readBy.Store(expired)
	c.writeBy.Store(expired)
	_ = c.net.SetDeadline(longAgo)
}

// Expired says whether a deadline has passed or the connection was aborted: it is good for nothing more.
func (c *Conn) Expired() bool { return c.readBy.Load() == expired || c.writeBy.Load() == expired }

// Watch has a aborted if the peer goes away, until Unwatch. A peer that only closes its sending side is taken as gone:
// over HTTP nobody does that and waits for an answer.
func (c *Conn) Watch(a Aborter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watcher, c.since = a, c.sweeper.Now()
}

// Unwatch ends Watch and says whether the peer was found gone. The watched is not aborted afterwards.
func (c *Conn) Unwatch() (gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watcher = nil
	return c.gone
}

// Read reads into p.
func (c *Conn) Read(p []byte) (int, error) { return c.net.Read(p) }

// ErrSpoke says that a peer that was to be asked has closed, or said something, already: whatever it is, it is no answer.
var ErrSpoke = errors.New("it was closed, or something came, before anything was asked")

// ErrFull says that a buffer holds as much as it may and more would be needed.
var ErrFull = errors.New("buffer is full")

// Fill reads what there is into b, waiting for the first byte. While it waits b needs no memory. A buffer that holds limit
// bytes is not filled any further: ErrFull. The end of the connection is io.EOF, without any bytes.
func (c *Conn) Fill(b *Buffer, limit int) error {
	if b.Len() >= limit {
		return ErrFull
	}
	if c.plain {
		return c.fillPlain(b, limit)
	}
	if b.mem == nil {
		n, err := c.net.Read(c.first[:])
		if n == 0 {
			return orEOF(err)
		}
		b.reserve(limit)
		b.w += copy(b.mem[b.w:], c.first[:n])
		return nil
	}
	b.reserve(limit)
	n, err := c.net.Read(b.mem[b.w:])
	b.w += n
	if n == 0 {
		return orEOF(err)
	}
	return nil // an error comes again at the next call
}

func orEOF(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// peerGone finds out whether the peer has closed, without waiting and without taking anything from the stream.
func (c *Conn) peerGone() bool {
	if c.socket == nil {
		return false
	}
	gone := false
	err := c.socket.Control(func(fd uintptr) { gone = hungUp(fd) || !c.plain && closedByPeer(fd) })
	return gone || err != nil
}

// sweep does what is due: end reads and writes whose time is over, and look after a peer that is waited for.
func (c *Conn) sweep(now int64) {
	if by := c.readBy.Load(); by > 0 && now > by && c.readBy.CompareAndSwap(by, expired) {
		_ = c.net.SetReadDeadline(longAgo)
	}
	if by := c.writeBy.Load(); by > 0 && now > by && c.writeBy.CompareAndSwap(by, expired) {
		_ = c.net.SetWriteDeadline(longAgo)
	}
	if at := c.rests.Load(); at > 0 && now-at >= int64(watchAfter) && c.rests.CompareAndSwap(at, 0) {
		c.lookAfter()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watcher == nil || now-c.since < int64(watchAfter) {
		return
	}
	if c.since = now; !c.peerGone() {
		return
	}
	c.gone = true
	c.watcher.Abort()
	c.watcher = nil
}

// lookAfter ends the reading from a peer that was gone before Serve began to wait: if its end came together with its
// request, the socket has nothing more to tell.
func (c *Conn) lookAfter() {
	if c.peerGone() {
		c.readBy.Store(expired)
		_ = c.net.SetReadDeadline(longAgo)
	}
}
