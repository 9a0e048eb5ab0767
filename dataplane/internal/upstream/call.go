package upstream

import (
	"context"
	"errors"
	"slices"
	"time"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream/balance"
	"keyward.dev/dataplane/internal/upstream/guard"
)

// call is an exchange from Do to Response.Close. Its Response keeps it for the next, with all the memory it needs.
type call struct {
	m    *Manager
	ctx  context.Context
	req  *Request
	resp *Response
	view *view
	opts *runtime.CallOptions
	ends int64 // when everything has to be over, on the sweeper's clock; 0: never

	whole   []byte // the body, if isWhole
	isWhole bool   // the whole body is in memory, or there is none
	safe    bool   // the request may be sent again although the target may have seen it

	index  int // of the target in the view
	target *target
	tried  balance.Tried
	pass   guard.Pass
	fine   bool // nothing speaks against the target so far

	stream  stream     // nil before the head of the response has come
	tunnel  *conn.Conn // after 101
	behind  []byte     // what came behind the head of 101
	watched bool       // the client's connection tells us if it ends
	context *contextWatch

	http1 *http1
}

// transporter is one way to speak HTTP.
type transporter interface {
	// try sends the call's request to its target once, waits for the head of the answer and fills in the response.
	try(c *call) *failure
}

func newCall(m *Manager) *call {
	c := &call{m: m}
	c.http1 = newHTTP1(c)
	return c
}

// Do sends the request and waits for the head of the response. With an error, always an *Error, the exchange is over.
func (m *Manager) Do(ctx context.Context, r *Request, resp *Response) error {
	c := resp.kept
	if c == nil || c.m != m {
		c = newCall(m)
	}
	resp.kept = nil // a panic leaves it behind, whatever is in it
	c.begin(ctx, r, resp)
	if f := c.run(); f != nil {
		c.close()
		return &f.Error
	}
	return nil
}

func (c *call) begin(ctx context.Context, r *Request, resp *Response) {
	c.ctx, c.req, c.resp = ctx, r, resp
	c.view = c.m.view(r.Service, r.Settings)
	c.opts = r.Options
	if c.opts == nil {
		c.opts = &r.Service.Call
	}
	if c.opts.Total > 0 {
		c.ends = c.m.now() + int64(c.opts.Total) + int64(conn.Resolution) // the clock may be so much behind
	}
	c.isWhole = true
	if r.Body != nil && r.ContentLength != 0 {
		c.whole, c.isWhole = r.Body.Whole()
	}
	c.safe = c.isWhole && repeatable(r.Method, c.opts.Retry.Methods)
	resp.begin(c)
	c.watch()
}

// watch has the response aborted when the client goes away.
func (c *call) watch() {
	if c.req.Client != nil {
		c.req.Client.Watch(c.resp)
		c.watched = true
	} else if c.ctx.Done() != nil {
		c.context = watchContext(c.ctx, c.resp)
	}
}

func (c *call) unwatch() {
	if c.watched {
		c.req.Client.Unwatch()
		c.watched = false
	}
	if c.context != nil {
		c.context.end()
		c.context = nil
	}
}

// contextWatch aborts a response when its context ends. It allocates: it is for clients that are no connection of ours.
type contextWatch struct {
	stop func() bool
	done chan struct{}
}

func watchContext(ctx context.Context, r *Response) *contextWatch {
	w := &contextWatch{done: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.done)
		r.Abort()
	})
	return w
}

// end returns when the response is not aborted any more: it may soon be that of another exchange.
func (w *contextWatch) end() {
	if !w.stop() {
		<-w.done
	}
}

// run tries until there is a response to pass on, or no try is left.
func (c *call) run() *failure {
	retry := &c.opts.Retry
	if retry.Attempts > 1 {
		c.view.budget.Request(c.m.now())
	}
	for try := 1; ; try++ {
		f := c.once()
		why := c.reason(f)
		if why == 0 || why&retry.On == 0 || try >= retry.Attempts || !c.again(f) {
			return f
		}
		c.view.stats.retried(why)
		c.leaveTarget()
	}
}

// reason says for which reason one might try again: for that of a failure, or for the status of a response.
func (c *call) reason(f *failure) runtime.RetryOn {
	if f != nil {
		return f.why
	}
	switch c.resp.Status {
	case 502:
		return runtime.RetryBadGateway
	case 503:
		return runtime.RetryUnavailable
	case 504:
		return runtime.RetryGatewayTimeout
	}
	return 0
}

// again says whether the request may be sent once more after this failure, or after a response, which is dropped then.
func (c *call) again(f *failure) bool {
	unsent := f != nil && f.unsent
	if !unsent && !c.safe || c.over() || c.resp.isAborted() {
		return false
	}
	if f == nil && !c.stream.spare() {
		return false
	}
	if !c.view.budget.Retry(c.m.now(), c.opts.Retry.Budget) {
		c.view.stats.exhausted.Add(1)
		return false
	}
	if f == nil {
		c.dropStream()
	}
	return true
}

// once tries one target.
func (c *call) once() *failure {
	if f := c.enter(); f != nil {
		return f
	}
	var began time.Time
	if c.view.set.Measures() {
		began = time.Now()
	}
	f := c.engine().try(c)
	if !began.IsZero() {
		c.took(began, f)
	}
	c.report(f)
	return f
}

func (c *call) engine() transporter {
	if c.view.conf.Protocol == runtime.HTTP2 || c.m.engine == EngineNetHTTP {
		return netHTTP{}
	}
	return c.http1
}

// enter asks the breaker and chooses a target.
func (c *call) enter() *failure {
	v, now := c.view, c.m.now()
	if v.conf.Breaker != nil {
		pass, wait, ok := v.breaker.Allow(now, v.conf.Breaker)
		if !ok {
			f := fail(503, "circuit_open", errOpen)
			f.RetryAfter = wait
			return f
		}
		c.pass = pass
	}
	i, ok := v.set.Pick(now, c.hash(), &c.tried)
	if !ok {
		if v.conf.Breaker != nil {
			v.breaker.Done(now, v.conf.Breaker, c.pass, guard.Unknown)
		}
		return fail(503, "no_target", errNoTarget)
	}
	c.tried.Add(i)
	c.index, c.target = i, v.targets[i]
	c.target.Begin()
	return nil
}

// leaveTarget ends what enter began.
func (c *call) leaveTarget() {
	if c.target == nil {
		return
	}
	if c.fine {
		c.target.Succeeded()
	}
	c.target.End()
	c.target, c.fine = nil, false
}

// slowFailure is how long a try that failed is thought to have taken at least: a target that fails at once is not fast.
const slowFailure = time.Second

func (c *call) took(began time.Time, f *failure) {
	now := time.Now()
	d := now.Sub(began)
	if f != nil {
		if !f.blame {
			return
		}
		d = max(d, slowFailure)
	}
	c.target.Took(d, int64(now.Sub(c.m.started)))
}

// report tells breaker and balancer how a try ended.
func (c *call) report(f *failure) {
	v, conf, now := c.view, c.view.conf, c.m.now()
	if conf.Breaker != nil {
		if state, changed := v.breaker.Done(now, conf.Breaker, c.pass, c.outcome(f)); changed {
			v.breakerChanged(state)
		}
	}
	if conf.Passive == nil || c.target == nil {
		return
	}
	switch {
	case f == nil && !slices.Contains(conf.Passive.Statuses, c.resp.Status):
		c.fine = true
	case f == nil || f.blame:
		c.failed(now)
	}
}

// failed counts a failure against the target.
func (c *call) failed(now int64) {
	if d := c.view.set.Failed(c.index, now, c.view.conf.Passive); d > 0 {
		c.view.ejected(c.target, d)
	}
}

func (c *call) outcome(f *failure) guard.Outcome {
	switch {
	case f == nil && c.resp.Status < 500:
		return guard.Success
	case f == nil || f.blame:
		return guard.Failure
	}
	return guard.Unknown
}

// brokeOff counts a response that did not come whole.
func (c *call) brokeOff(err error) {
	if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 && c.fine {
		c.failed(c.m.now())
	}
	c.fine = false
}

// over says whether the time for the whole exchange has passed.
func (c *call) over() bool { return c.ends != 0 && c.m.now() >= c.ends }

// within returns d, but no more than what is left of the whole exchange's time; 0: no bound.
func (c *call) within(d time.Duration) time.Duration {
	if c.ends == 0 {
		return d
	}
	left := max(time.Duration(c.ends-c.m.now()), 1)
	if d <= 0 {
		return left
	}
	return min(d, left)
}

// deadline is until when a connection has to be there.
type deadline struct {
	at    time.Time // zero: no bound
	total bool      // it is that of the whole exchange
}

func (c *call) connectBy() deadline {
	d := c.within(c.opts.Connect)
	if d <= 0 {
		return deadline{}
	}
	return deadline{time.Now().Add(d), d != c.opts.Connect}
}

// unconnected says what a failed dial is, given that the exchange was not aborted.
func (c *call) unconnected(err error, by deadline) *failure {
	f := unconnected(err)
	if f.Status == 504 && by.total {
		f = fail(504, "total_timeout", errTotal)
		f.blame = true
	}
	return f
}

// gone is the failure of an exchange that was aborted.
func (c *call) gone() *failure {
	if c.watched && c.req.Client.Unwatch() || c.req.Client == nil && c.ctx.Err() != nil {
		c.watched = false
		return fail(0, "client_gone", errGone)
	}
	return fail(0, "aborted", errAborted)
}

func (c *call) dropStream() {
	if c.stream != nil {
		c.stream.close()
		c.stream = nil
	}
}

// close ends the exchange and gives everything back.
func (c *call) close() {
	resp := c.resp
	c.unwatch()
	c.dropStream()
	if c.http1.link != nil {
		c.http1.discard() // a callback of the caller's has panicked
	}
	c.leaveTarget()
	resp.hold(nil)
	resp.call, resp.Header = nil, nil
	c.http1.reset()
	*c = call{m: c.m, http1: c.http1}
	resp.kept = c
}
