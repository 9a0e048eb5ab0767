package server

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/router"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/trace"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/check/match"
)

// call is one exchange and what the server needs around it. It is pooled.
type call struct {
	server *Server
	wire   wire
	x      exchange.Exchange
	body   requestBody
	resp   upstream.Response
	stream streamEntry
	h1     h1wire
	// informational passes on interim responses. It is made once, so that no request makes a closure.
	informational func(status int, h exchange.Headers)

	progress
}

// progress is what a call knows about its exchange.
type progress struct {
	rt      *runtime.Runtime
	route   *runtime.Route
	overlay *runtime.Overlay // nil before it ran
	prefix  int              // length of the matched prefix
	trusted bool             // the peer is a trusted proxy
	secure  *clientcert.Peer // nil: not over TLS

	// host is the host as the client sent it, peer the peer's address in text form, upgrade the protocol the client
	// offers to switch to; nil: none.
	host, peer, upgrade   []byte
	headBytes, headFields int

	request   upstream.Request
	forwarded bool // the request was given to the upstream
	headSent  bool
	last      bool // the connection ends after the response
	abort     bool // the connection is to be cut
	out       accesslog.Outcome
}

func newCall(s *Server) *call {
	c := &call{server: s}
	c.informational = func(status int, h exchange.Headers) { c.wire.interim(status, h) }
	return c
}

// reset makes the call ready for the next exchange, keeping memory.
func (c *call) reset() {
	c.x.Reset()
	c.h1.reset()
	c.body.reset()
	c.wire = nil
	c.progress = progress{}
}

// arrived notes when and from where the request came, and under which configuration it is served: also one that is
// refused before anything of it is known is logged as the group says.
func (c *call) arrived(peer netip.AddrPort, secure *clientcert.Peer) {
	q := &c.x.Request
	c.secure, q.TLS, q.Scheme = secure, secure != nil, "http"
	if q.TLS {
		q.Scheme = "https"
	}
	q.RemoteAddr, q.ClientIP = peer, peer.Addr().Unmap().WithZone("")
	c.x.Timings.Received = time.Now()
	c.server.last.Store(c.x.Timings.Received.UnixNano())
	if c.rt = c.server.config.Runtime.Load(); c.rt != nil {
		c.out.Settings = &c.rt.Settings.AccessLog
	}
}

// run is the way of a request.
func (c *call) run(ctx context.Context) {
	if c.ready() && c.identify() {
		c.permit(ctx)
	}
}

// runPrompt is run for who must not wait for policies. It returns false at the first that may; resume goes on there.
func (c *call) runPrompt(ctx context.Context) bool {
	if !c.ready() {
		return true
	}
	if c.route.Chain.Waits() {
		return false
	}
	if !c.identify() {
		return true
	}
	if c.overlay.Chain.Waits() {
		return false
	}
	c.permit(ctx)
	return true
}

// resume goes on where runPrompt returned false.
func (c *call) resume(ctx context.Context) {
	if c.overlay != nil || c.identify() {
		c.permit(ctx)
	}
}

// ready finds out which route the request is for. It returns false after it has answered it.
func (c *call) ready() bool {
	r := c.admit()
	if r == nil {
		r = c.find()
	}
	if r == nil {
		r = c.bodyAllowed()
	}
	if r != nil {
		c.refuse(r)
	}
	return r == nil
}

// identify finds out who calls and what applies to them. It returns false after it has answered the request.
func (c *call) identify() bool {
	c.x.Bodies = c
	if c.route.Chain.Request(&c.x) != policy.Next {
		c.stopped()
		return false
	}
	overlay := c.rt.Overlay(c.route, c.x.Principal)
	if overlay.Closed != "" {
		c.refuse(c.server.refusals.closed)
		return false
	}
	c.overlay = overlay
	return true
}

// permit forwards the request if the caller may make it.
func (c *call) permit(ctx context.Context) {
	if c.overlay.Chain.Request(&c.x) != policy.Next {
		c.stopped()
		return
	}
	c.forward(ctx)
}

// admit checks what holds for every request of the group, and normalises host and target. The runtime is loaded.
func (c *call) admit() *exchange.Refusal {
	no := c.server.refusals
	if c.rt == nil {
		return no.notReady
	}
	c.x.Directory = c.rt.Directory
	s := c.rt.Settings
	c.clientAddress(s)
	trace.Propagate(&c.x, c.trusted)
	q := &c.x.Request
	q.Authority = c.host
	switch {
	case c.rt.Closed != "":
		return no.closed
	case len(q.RawTarget) > s.MaxURI:
		return no.uri
	case c.headFields > s.MaxHeaders || c.headBytes > s.MaxHead:
		return no.headers
	}
	var err error
	if q.Host, err = match.Host(c.x.Alloc(len(c.host)), c.host); err != nil {
		q.Host = nil
		return no.badHost
	}
	if string(q.Method) == http.MethodConnect {
		c.last = true // what follows may be meant for the tunnel that it asks for
		return no.badMethod
	}
	if a := c.challenged(); a != nil {
		return a
	}
	if s.RequireHTTPS && q.Scheme != "https" {
		return no.plain
	}
	return c.target(s)
}

// challenged answers an ACME authority that looks whether the host is ours, over plain HTTP and with what the control plane gave
// to answer it with. Anything else below the path is a request like others.
func (c *call) challenged() *exchange.Refusal {
	q := &c.x.Request
	if q.TLS || c.rt.Challenges == nil || string(q.Method) != http.MethodGet {
		return nil
	}
	text := c.rt.Challenges.Answer(q.Host, q.RawTarget, time.Now())
	if text == nil {
		return nil
	}
	return exchange.NewText(http.StatusOK, text, exchange.Field("Content-Type", "application/octet-stream"), exchange.Field("Cache-Control", "no-store"))
}

func (c *call) target(s *runtime.Settings) *exchange.Refusal {
	no := c.server.refusals
	q := &c.x.Request
	origin, ok := c.originForm()
	if !ok {
		return no.badTarget
	}
	path, query, err := match.Target(c.x.Alloc(2*len(origin)), origin, s.StrictPaths)
	if err != nil {
		return no.badTarget
	}
	q.Path, q.Query = path, query
	for v := range q.Header.Values("Connection") {
		if exchange.HasToken(v, "upgrade") {
			c.upgrade = q.Header.Get("Upgrade")
		}
	}
	httpwire.DropHopByHop(&q.Header)
	s.CallerFields.Remove(&q.Header)
	return nil
}

// find chooses the route.
func (c *call) find() *exchange.Refusal {
	q := &c.x.Request
	if c.rt.Clients.Len() > 0 && c.misdirected() || !c.rt.Fits(q.Host, c.secure) {
		return c.server.refusals.misdirected
	}
	req := router.Request{Host: q.Host, Path: q.Path, Method: q.Method, Query: q.Query, Header: q.Header}
	res := c.rt.Table.Match(&req)
	if res.Status == router.NotAllowed && c.preflight() {
		res = c.preflightRoute(&req, res)
	}
	switch res.Status {
	case router.Found:
	case router.NotAllowed:
		return notAllowed(res.Allow())
	case router.Closed:
		return c.server.refusals.closed
	default:
		return c.server.refusals.notFound
	}
	route, ok := res.Route.Target.(*runtime.Route)
	if !ok {
		return c.server.refusals.internal
	}
	c.route, c.prefix, c.out.Route = route, res.Prefix, route
	c.x.Route = route.Info
	if c.secure != nil {
		c.x.Client = c
	}
	if route.Closed != "" {
		return c.server.refusals.closed
	}
	if route.Demand != nil {
		if r := c.clientRefusal(); r != nil {
			return r
		}
	}
	return c.upgradeAllowed()
}

// preflight says whether this is a CORS preflight request.
func (c *call) preflight() bool {
	q := &c.x.Request
	return string(q.Method) == http.MethodOptions && q.Header.Has("Origin") && q.Header.Has("Access-Control-Request-Method")
}

// preflightRoute finds the route that would take the request the browser asks for. It counts only if its chain answers
// every preflight, so that no method gets past the route's own list.
func (c *call) preflightRoute(actual *router.Request, otherwise router.Result) router.Result {
	req := *actual
	req.Method = c.x.Request.Header.Get("Access-Control-Request-Method")
	res := c.rt.Table.Match(&req)
	if res.Status != router.Found {
		return otherwise
	}
	route, ok := res.Route.Target.(*runtime.Route)
	if !ok || route.Closed != "" || !route.Chain.AnswersPreflight() {
		return otherwise
	}
	return res
}

// upgradeAllowed looks at an offer to switch protocols. One that the route does not take is not passed on, as RFC 9110
// section 7.8 allows; a WebSocket handshake is refused then, because without the switch it means nothing.
func (c *call) upgradeAllowed() *exchange.Refusal {
	if c.x.Request.Proto != 11 {
		c.upgrade = nil // means nothing in other versions
	}
	if c.upgrade == nil {
		return nil
	}
	if c.rt.Settings.Upgrades && c.x.Request.ContentLength == 0 {
		for _, u := range c.route.Upgrades {
			if exchange.EqualFold(c.upgrade, u) {
				return nil
			}
		}
	}
	websocket := exchange.HasToken(c.upgrade, "websocket")
	c.upgrade = nil
	if websocket {
		return c.server.refusals.upgrade
	}
	return nil
}

// bodyAllowed refuses bodies that are announced too large, before any policy runs.
func (c *call) bodyAllowed() *exchange.Refusal {
	if c.x.Request.ContentLength > c.route.MaxBody {
		return c.server.refusals.body
	}
	return nil
}

// refuse answers with a refusal of the gateway itself.
func (c *call) refuse(r *exchange.Refusal) {
	c.body.mu.Lock()
	c.x.Answer(r)
	c.body.mu.Unlock()
	c.respondLocally()
}

// stopped answers a request that a policy has stopped.
func (c *call) stopped() {
	if !c.clientGone() {
		c.respondLocally()
	}
}

// respondLocally sends the answer that the exchange holds.
func (c *call) respondLocally() {
	c.unwind()
	c.writeLocal()
}

// unwind runs the response side of the policies whose request side ran, in reverse order. Whoever still reads the
// request's body is kept from the exchange meanwhile.
func (c *call) unwind() {
	c.body.mu.Lock()
	defer c.body.mu.Unlock()
	policy.Unwind(&c.x)
}

// end finishes the exchange after run has returned or panicked with v. It reports whether the connection is to be cut.
func (c *call) end(v any) (abort bool) {
	if v != nil {
		c.panicked(v)
	}
	c.resp.Close() // joins whoever reads the body
	c.out.BytesIn = c.body.n
	c.x.Timings.Done = c.x.Timings.Now()
	if r := c.x.Refusal(); r != nil && !r.IsAnswer() && c.out.Code == "" {
		c.out.Code = r.Reason()
	}
	c.out.Aborted = c.abort
	for _, o := range c.server.config.Observers {
		o.Observe(&c.x, c.out)
	}
	return c.abort
}

func (c *call) panicked(v any) {
	c.server.config.Log.Error("request panicked", "route", c.x.Route.Name, "id", c.x.ID().String(), "err", v)
	c.out.Code = "internal"
	if c.headSent {
		c.abort = true
		return
	}
	defer func() {
		if recover() != nil {
			c.abort = true
		}
	}()
	policy.Forget(&c.x)
	c.refuse(c.server.refusals.internal)
}
