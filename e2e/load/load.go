// Package load sends requests at a constant rate, whatever the answers take (an open loop), over kept-alive connections
// that it manages itself, so that it can tell a connection that was announced as closing from one that broke. Tests of
// this module use it; nothing else does.
package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says what to send.
type Config struct {
	// Targets are the addresses to send to in turn; they may change while the load runs.
	Targets *Targets
	// Rate is requests per second over all targets.
	Rate int
	// Connections per target.
	Connections int
	// Outstanding bounds how many requests wait for an answer at one time; 0: nothing does. What would be more is sent later, and
	// is late from then on: a sender that cannot keep up would use up the files that may be open.
	Outstanding int
	// Request is what is sent, head and body, as on the wire.
	Request []byte
	// Make is asked for the nth request instead, if it is there, from several goroutines at once.
	Make func(n int64) []byte
	// Timeout of one answer.
	Timeout time.Duration
	// Dial opens a connection; nil: a plain one.
	Dial func(addr string) (net.Conn, error)
	// Answered is told of each answer, if it is there, from several goroutines at once: to which request, and how long after it
	// was to be sent.
	Answered func(n int64, status int, after time.Duration)
}

// Targets is a set of addresses that can be changed under load: a load balancer's list.
type Targets struct {
	current atomic.Pointer[[]string]
}

// NewTargets returns the set of these addresses.
func NewTargets(addrs ...string) *Targets {
	t := &Targets{}
	t.Set(addrs...)
	return t
}

// Set replaces the addresses. Requests that are under way are not disturbed.
func (t *Targets) Set(addrs ...string) {
	list := slices.Clone(addrs)
	t.current.Store(&list)
}

// Get returns the addresses.
func (t *Targets) Get() []string { return *t.current.Load() }

// Result is what happened.
type Result struct {
	Sent     int64
	OK       int64 // 2xx
	Failures []string
	Failed   int64
	P50, P99 time.Duration // from the intended time of sending
}

// keptFailures bounds the failures that are described.
const keptFailures = 20

// runner is one load.
type runner struct {
	cfg   Config
	slots chan struct{} // nil: nothing is bounded
	wg    sync.WaitGroup
	sent  atomic.Int64
	ok    atomic.Int64

	mu        sync.Mutex // guards what follows
	idle      map[string][]*conn
	targets   *[]string // as last looked at
	failures  []string
	failed    int64
	latencies []time.Duration
}

// Run sends until the context ends, waits for the answers under way and returns what happened.
func Run(ctx context.Context, cfg Config) Result {
	r := &runner{cfg: cfg, idle: map[string][]*conn{}}
	if cfg.Outstanding > 0 {
		r.slots = make(chan struct{}, cfg.Outstanding)
	}
	interval := time.Second / time.Duration(cfg.Rate)
	start := time.Now()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	var n int64
	for ctx.Err() == nil {
		for due := int64(time.Since(start) / interval); n <= due; n++ {
			r.wg.Add(1)
			go r.one(ctx, n, start.Add(time.Duration(n)*interval))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	r.wg.Wait()
	return r.result()
}

// slot waits for a place among the outstanding requests, and returns from when on a request is late. Without ok it is not to be
// sent any more.
func (r *runner) slot(ctx context.Context, due time.Time) (_ time.Time, ok bool) {
	if r.slots == nil {
		return due, true
	}
	select {
	case r.slots <- struct{}{}:
		return due, true
	default:
	}
	select {
	case r.slots <- struct{}{}:
		return time.Now(), true
	case <-ctx.Done():
		return due, false
	}
}

// one sends one request to the next target.
func (r *runner) one(ctx context.Context, n int64, due time.Time) {
	defer r.wg.Done()
	due, ok := r.slot(ctx, due)
	if !ok {
		return
	}
	if r.slots != nil {
		defer func() { <-r.slots }()
	}
	targets := r.cfg.Targets.Get()
	addr := targets[int(n)%len(targets)]
	r.sent.Add(1)
	c, err := r.take(addr)
	if err != nil {
		r.fail(fmt.Sprintf("dial %s: %v", addr, err))
		return
	}
	request := r.cfg.Request
	if r.cfg.Make != nil {
		request = r.cfg.Make(n)
	}
	status, closing, err := c.exchange(request, r.cfg.Timeout)
	switch {
	case err != nil:
		c.Close()
		r.fail(fmt.Sprintf("%s after %d answers on the connection: %v", addr, c.answers, err))
		return
	case status < 200 || status > 299:
		r.fail(fmt.Sprintf("%s: status %d", addr, status))
	default:
		r.ok.Add(1)
	}
	after := time.Since(due)
	if r.cfg.Answered != nil {
		r.cfg.Answered(n, status, after)
	}
	r.mu.Lock()
	r.latencies = append(r.latencies, after)
	r.mu.Unlock()
	if closing {
		c.Close()
		return
	}
	r.give(addr, c)
}

func (r *runner) take(addr string) (*conn, error) {
	r.mu.Lock()
	r.forget()
	for {
		pool := r.idle[addr]
		if len(pool) == 0 {
			break
		}
		c := pool[len(pool)-1]
		r.idle[addr] = pool[:len(pool)-1]
		if !c.ended() {
			r.mu.Unlock()
			return c, nil
		}
		c.Close()
	}
	r.mu.Unlock()
	dial := r.cfg.Dial
	if dial == nil {
		dial = func(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, r.cfg.Timeout) }
	}
	nc, err := dial(addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc, r: bufio.NewReader(nc)}, nil
}

// forget closes the idle connections to what is no target any more. mu is held.
func (r *runner) forget() {
	now := r.cfg.Targets.current.Load()
	if now == r.targets {
		return
	}
	r.targets = now
	for addr, pool := range r.idle {
		if slices.Contains(*now, addr) {
			continue
		}
		for _, c := range pool {
			c.Close()
		}
		delete(r.idle, addr)
	}
}

func (r *runner) give(addr string, c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	if len(r.idle[addr]) >= r.cfg.Connections || !slices.Contains(*r.targets, addr) {
		c.Close()
		return
	}
	r.idle[addr] = append(r.idle[addr], c)
}

func (r *runner) fail(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
	if len(r.failures) < keptFailures {
		r.failures = append(r.failures, time.Now().Format("15:04:05.000 ")+what)
	}
}

func (r *runner) result() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, pool := range r.idle {
		for _, c := range pool {
			c.Close()
		}
	}
	res := Result{Sent: r.sent.Load(), OK: r.ok.Load(), Failures: r.failures, Failed: r.failed}
	if n := len(r.latencies); n > 0 {
		slices.Sort(r.latencies)
		res.P50, res.P99 = r.latencies[n/2], r.latencies[n*99/100]
	}
	return res
}

// conn is a connection with its reader.
type conn struct {
	net.Conn
	r       *bufio.Reader
	answers int
}

// ended says whether the server has closed an idle connection. It may at any time, and clients see that before they send
// anything on it (RFC 9112 section 9.5): what is counted as lost was sent while the connection was open.
func (c *conn) ended() bool {
	nc := c.Conn
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Read(func(fd uintptr) bool {
		var next [1]byte
		n, _, err := syscall.Recvfrom(int(fd), next[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ended = n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN)
		return true // whatever there is
	})
	return ended || err != nil
}

// exchange sends a request and reads its answer whole.
func (c *conn) exchange(request []byte, timeout time.Duration) (status int, closing bool, err error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, false, err
	}
	if _, err := c.Write(request); err != nil {
		return 0, false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, false, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, false, err
	}
	c.answers++
	return resp.StatusCode, resp.Close, nil
}
