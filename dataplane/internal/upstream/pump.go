package upstream

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/httpwire"
)

// errLength is a body that ends before its announced length.
var errLength = errors.New("the body is shorter than announced")

// pumpPiece is how much of a body goes out with one write.
const pumpPiece = 32 << 10

// pump sends the body of a request on a goroutine of its own while the call waits for the answer. The call's goroutine
// starts it and always waits for its end.
type pump struct {
	http1   *http1
	conn    *conn.Conn
	done    chan struct{} // room for one: it has ended
	running bool          // of the call's goroutine: not waited for yet
	last    atomic.Bool   // the end of the body is being written

	out []byte // of the pump's goroutine

	mu    sync.Mutex
	ended bool  // guarded by mu
	came  bool  // guarded by mu: the head of the answer; then reading has other deadlines
	err   error // guarded by mu: why the body was not sent wholly
	body  error // guarded by mu: err, if it came from the body itself
}

func (p *pump) init(h *http1) {
	p.http1 = h
	p.done = make(chan struct{}, 1)
}

func (p *pump) reset() {
	p.conn, p.ended, p.came, p.err, p.body = nil, false, false, nil, nil
	p.last.Store(false)
	if cap(p.out) > maxKept {
		p.out = nil
	}
}

// start has the body sent. Until that is done only the time for everything bounds the waiting for the answer.
func (p *pump) start() {
	c := p.http1.call
	p.conn = p.http1.link.conn
	p.conn.ReadBy(c.within(0))
	p.running = true
	c.m.workers.do(p)
}

// run is what the goroutine does.
func (p *pump) run() {
	if err := p.send(); p.finish(err) {
		p.conn.Abort() // what was sent is not a whole request and never will be
	}
	p.done <- struct{}{}
}

// finish notes how it ended, and begins the time for the head of the answer. It says whether no answer can be waited for.
func (p *pump) finish(err error) (hopeless bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.err = true, err
	if b, ok := errors.AsType[*bodyError](err); ok {
		p.body = b.error
		return true
	}
	if p.came {
		return false
	}
	if timedOut(err) {
		return true
	}
	c := p.http1.call
	p.conn.ReadBy(c.within(c.opts.ResponseHead))
	return false
}

// bodyError is an error of the body itself.
type bodyError struct{ error }

func (p *pump) send() error {
	c := p.http1.call
	if c.chunked() {
		return p.sendChunks(c)
	}
	for left := c.length(); left > 0; {
		piece, err := p.next(left)
		if err == io.EOF { //nolint:errorlint // never wrapped
			err = errLength
		}
		if err != nil {
			return &bodyError{err}
		}
		for len(piece) > 0 {
			n := min(len(piece), pumpPiece)
			left -= int64(n)
			if err := p.write(piece[:n], left == 0); err != nil {
				return err
			}
			piece = piece[n:]
		}
	}
	return nil
}

// next returns the next piece of a body of which so much is left to be sent.
func (p *pump) next(left int64) ([]byte, error) {
	c := p.http1.call
	if c.isWhole {
		return c.whole[int64(len(c.whole))-left:], nil
	}
	piece, err := c.req.Body.Next()
	if int64(len(piece)) > left {
		return nil, fmt.Errorf("the body is longer than announced by %d bytes", int64(len(piece))-left)
	}
	return piece, err
}

func (p *pump) sendChunks(c *call) error {
	whole := c.whole
	for {
		piece, err := whole, error(nil)
		if whole = nil; !c.isWhole {
			piece, err = c.req.Body.Next()
		} else if len(piece) == 0 {
			err = io.EOF
		}
		if err == io.EOF { //nolint:errorlint // never wrapped
			p.out = p.http1.appendEnd(p.out[:0])
			return p.write(p.out, true)
		}
		if err != nil {
			return &bodyError{err}
		}
		for len(piece) > 0 {
			n := min(len(piece), pumpPiece)
			p.out = httpwire.AppendChunk(p.out[:0], piece[:n])
			if err := p.write(p.out, false); err != nil {
				return err
			}
			piece = piece[n:]
		}
	}
}

// write writes within the time between two writes. What is last is known as such before it is under way: an answer to the
// whole body may come before the write has returned.
func (p *pump) write(b []byte, last bool) error {
	c := p.http1.call
	if !p.conn.WriteBy(c.within(c.opts.Idle)) {
		return errIdle
	}
	p.last.Store(last)
	_, err := p.conn.Write(b)
	p.conn.WriteBy(0)
	return err
}

// headCame notes that the answer has begun.
func (p *pump) headCame() {
	if !p.running {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.came = true
}

// error returns why the body was not sent wholly, as far as that is known.
func (p *pump) error() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// bodyError returns the error of the body itself, if that is the reason.
func (p *pump) bodyError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body
}

// lastWrite is how long the end of a body may take that nobody waits for: the answer is there already.
const lastWrite = time.Second

// sent says whether the body was sent wholly. If its end is just being written it waits for that.
func (p *pump) sent() bool {
	if p.running && p.last.Load() {
		p.join()
	}
	return !p.running && p.http1.whole
}

// join waits for the pump, whose last write is under way.
func (p *pump) join() {
	select {
	case <-p.done:
	default:
		p.conn.WriteBy(lastWrite)
		<-p.done
	}
	p.running = false
	p.http1.whole = p.error() == nil
}

// stop ends the pump, if it runs.
func (p *pump) stop() {
	if !p.running {
		return
	}
	if !p.last.Load() {
		p.conn.Abort()
		if c := p.http1.call; !c.isWhole {
			c.req.Body.Abort()
		}
	}
	p.join()
}
