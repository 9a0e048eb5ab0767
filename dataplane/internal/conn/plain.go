package conn

import (
	"io"
	"os"
	"syscall"
)

// Write writes p.
func (c *Conn) Write(p []byte) (int, error) {
	if !c.plain {
		return c.net.Write(p)
	}
	c.sent.p, c.sent.n, c.sent.err = p, 0, nil
	var err error
	if !c.sendAtOnce() {
		err = c.socket.Write(c.sent.try)
	}
	c.sent.p = nil
	if err == nil && c.sent.err != nil {
		err = os.NewSyscallError("write", c.sent.err)
	}
	return c.sent.n, err
}

// sendAtOnce sends within Serve, which keeps the socket open, and says whether nothing is left to do.
func (c *Conn) sendAtOnce() bool {
	return c.served.in && c.writeBy.Load() != expired && c.trySend(c.served.fd)
}

// trySend sends as much as the socket takes.
func (c *Conn) trySend(fd uintptr) bool {
	for s := &c.sent; s.n < len(s.p); {
		n, err := writeSocket(fd, s.p[s.n:])
		if err == syscall.EAGAIN { //nolint:errorlint // a plain errno
			return false
		}
		if err != nil {
			s.err = err
			return true
		}
		s.n += n
	}
	return true
}

// Ask writes p and then fills b with the answer, and returns how much was written. It is Write and Fill in one, for a
// peer that has nothing to say before: then there is no use in looking for an answer before it is waited for. A deadline
// for writing ends with the writing. Over plain TCP nothing is written, and the error is ErrSpoke, if something has come
// that was not read, or the end.
func (c *Conn) Ask(p []byte, b *Buffer, limit int) (int, error) {
	if !c.plain || b.Len() > 0 {
		n, err := c.Write(p)
		if c.WriteBy(0); err != nil {
			return n, err
		}
		return n, c.Fill(b, limit)
	}
	if b.mem != nil {
		b.reserve(limit)
	}
	c.sent.p, c.sent.n, c.sent.err, c.ask.done = p, 0, nil, false
	c.fill.into, c.fill.n, c.fill.err = b, 0, nil
	err := c.socket.Read(c.ask.try)
	c.sent.p, c.fill.into = nil, nil
	switch n := c.sent.n; {
	case c.sent.err == ErrSpoke: //nolint:errorlint // as it was stored
		return 0, ErrSpoke
	case c.sent.err != nil:
		return n, os.NewSyscallError("write", c.sent.err)
	case !c.ask.done && err == nil: // the socket did not take all at once
		m, err := c.Write(p[n:])
		if c.WriteBy(0); err != nil {
			return n + m, err
		}
		return len(p), c.Fill(b, limit)
	}
	if err = c.filled(err); err == nil {
		b.w += c.fill.n
	}
	return c.sent.n, err
}

// tryAsk sends at its first call, which comes after the socket was got ready for waiting: so an answer that is there
// before it is waited for is not missed. It reads at the next.
func (c *Conn) tryAsk(fd uintptr) bool {
	if c.ask.done {
		return c.tryFill(fd)
	}
	if !silent(fd) {
		c.sent.err = ErrSpoke
		return true
	}
	if !c.trySend(fd) || c.sent.err != nil {
		return true
	}
	c.ask.done = true
	c.WriteBy(0)
	return false
}

// Serve calls serve with something new in b, again and again, until serve returns false or there is nothing to come, which
// is an error as that of Fill. It may return without a call, with something in b. What it saves beside Fill in a loop is
// the read that finds nothing: the socket is watched all the while. So within serve the connection must be neither read
// nor closed.
func (c *Conn) Serve(b *Buffer, limit int, serve func() bool) error {
	if !c.plain {
		return c.Fill(b, limit)
	}
	c.fill.into, c.fill.err = b, nil
	err := c.socket.Read(func(fd uintptr) bool {
		c.rests.Store(0)
		c.served.fd, c.served.in = fd, true
		defer func() { c.served.in = false }()
		for {
			room, got := c.take(fd, limit)
			switch {
			case !got:
				c.rests.Store(c.sweeper.Now())
				return false
			case c.fill.n == 0 || c.fill.err != nil:
				return true
			}
			if b.w += c.fill.n; !serve() {
				return true
			}
			if c.fill.n < room { // all was read, and what comes from now on wakes us
				c.rests.Store(c.sweeper.Now())
				return false
			}
		}
	})
	c.rests.Store(0)
	c.fill.into = nil
	if c.fill.err == ErrFull { //nolint:errorlint // as it was stored
		return ErrFull
	}
	return c.filled(err)
}

// take reads once, and says how much there was room for; got is false if there is nothing yet.
func (c *Conn) take(fd uintptr, limit int) (room int, got bool) {
	b := c.fill.into
	if c.fill.n = 0; b.Len() >= limit {
		c.fill.err = ErrFull
		return 0, true
	}
	if b.mem != nil {
		b.reserve(limit)
	}
	got = c.tryFill(fd)
	return len(b.mem) - b.w, got
}

func (c *Conn) fillPlain(b *Buffer, limit int) error {
	if b.mem != nil {
		b.reserve(limit)
	}
	c.fill.into, c.fill.n, c.fill.err = b, 0, nil
	err := c.socket.Read(c.fill.try)
	c.fill.into = nil
	if err = c.filled(err); err == nil {
		b.w += c.fill.n
	}
	return err
}

// filled says how a read from the socket ended.
func (c *Conn) filled(err error) error {
	switch {
	case err != nil:
		return err
	case c.fill.err != nil:
		return os.NewSyscallError("read", c.fill.err)
	case c.fill.n == 0:
		return io.EOF
	}
	return nil
}

// tryFill reads if there is something to read. Memory for it is taken only then.
func (c *Conn) tryFill(fd uintptr) bool {
	b := c.fill.into
	if b.mem == nil {
		b.reserve(0)
		defer func() {
			if c.fill.n == 0 {
				b.Release()
			}
		}()
	}
	n, err := readSocket(fd, b.mem[b.w:])
	if err == syscall.EAGAIN { //nolint:errorlint // a plain errno
		return false
	}
	c.fill.n, c.fill.err = max(n, 0), err
	return true
}
