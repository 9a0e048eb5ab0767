package server

import (
	"context"
	"net/http"
	"time"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/router"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/shared/check/match"
)

// call is one exchange and what the server needs around it. It is pooled.
type call struct {
	server *Server
	x      exchange.Exchange
	w      http.ResponseWriter
	r      *http.Request

	rt      *runtime.Runtime
	route   *runtime.Route
	overlay *runtime.Overlay // nil before it ran
	prefix  int              // length of the matched prefix
	trusted bool             // the peer is a trusted proxy
	tls     bool             // the request came over TLS
	entered bool             // the route half of the chain ran

	headBytes, headFields int
	body                  *requestBody
	out                   accesslog.Outcome
	headSent              bool
	abort                 bool // the connection is to be cut
}

func (c *call) begin(w http.ResponseWriter, r *http.Request) {
	c.w, c.r = w, r
	c.x.Timings.Received = time.Now()
	c.fill(r)
}

func (c *call) reset() {
	c.x.Reset()
	*c = call{server: c.server, x: c.x}
}

// run is the way of a request.
func (c *call) run(ctx context.Context) {
	if r := c.admit(); r != nil {
		c.refuse(r)
		return
	}
	if r := c.find(); r != nil {
		c.refuse(r)
		return
	}
	if r := c.bodyAllowed(); r != nil {
		c.refuse(r)
		return
	}
	c.entered = true
	if c.route.Chain.Request(&c.x) != policy.Next {
		c.respondLocally()
		return
	}
	overlay := c.rt.Overlay(c.route, c.x.Principal)
	if overlay.Closed != "" {
		c.refuse(c.server.refusals.closed)
		return
	}
	c.overlay = overlay
	if overlay.Chain.Request(&c.x) != policy.Next {
		c.respondLocally()
		return
	}
	c.forward(ctx)
}

// admit checks what holds for every request of the group, and normalises host and target.
func (c *call) admit() *exchange.Refusal {
	no := c.server.refusals
	c.rt = c.server.config.Runtime.Load()
	if c.rt == nil {
		return no.notReady
	}
	c.x.Directory = c.rt.Directory
	s := c.rt.Settings
	c.clientAddress(s)
	switch {
	case c.rt.Closed != "":
		return no.closed
	case len(c.x.Request.RawTarget) > s.MaxURI:
		return no.uri
	case c.headFields > s.MaxHeaders || c.headBytes > s.MaxHead:
		return no.headers
	}
	var err error
	if c.x.Request.Host, err = match.Host(c.x.Alloc(len(c.r.Host)), c.copy(c.r.Host)); err != nil {
		c.x.Request.Host = nil
		return no.badHost
	}
	if c.r.Method == http.MethodConnect {
		return no.badMethod
	}
	if s.RequireHTTPS && c.x.Request.Scheme != "https" {
		return no.plain
	}
	return c.target(s)
}

func (c *call) target(s *runtime.Settings) *exchange.Refusal {
	no := c.server.refusals
	origin, ok := originForm(c.r.RequestURI)
	if !ok {
		return no.badTarget
	}
	path, query, err := match.Target(c.x.Alloc(2*len(origin)), c.copy(origin), s.StrictPaths)
	if err != nil {
		return no.badTarget
	}
	c.x.Request.Path, c.x.Request.Query = path, query
	if upgrade := c.x.Request.Header.Get("Upgrade"); exchange.HasToken(upgrade, "websocket") {
		return no.upgrade
	}
	dropHopByHop(&c.x.Request.Header)
	return nil
}

// find chooses the route.
func (c *call) find() *exchange.Refusal {
	q := &c.x.Request
	req := router.Request{Host: q.Host, Path: q.Path, Method: q.Method, Query: q.Query, Header: q.Header}
	res := c.rt.Table.Match(&req)
	if res.Status == router.NotAllowed && c.preflight() {
		res = c.preflightRoute(req, res)
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
	c.route, c.prefix = route, res.Prefix
	c.x.Route = route.Info
	if route.Closed != "" {
		return c.server.refusals.closed
	}
	return nil
}

// preflight says whether this is a CORS preflight request.
func (c *call) preflight() bool {
	q := &c.x.Request
	return string(q.Method) == http.MethodOptions && q.Header.Has("Origin") && q.Header.Has("Access-Control-Request-Method")
}

// preflightRoute finds the route that would take the request the browser asks for. It counts only if its chain answers
// every preflight, so that no method gets past the route's own list.
func (c *call) preflightRoute(req router.Request, otherwise router.Result) router.Result {
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

// bodyAllowed refuses bodies that are announced too large, before any policy runs.
func (c *call) bodyAllowed() *exchange.Refusal {
	if c.x.Request.ContentLength > c.rt.Settings.MaxBody {
		return c.server.refusals.body
	}
	return nil
}

// refuse answers with a refusal of the gateway itself.
func (c *call) refuse(r *exchange.Refusal) {
	c.exclusively(func() { c.x.Answer(r) })
	c.respondLocally()
}

// unwind runs the response side of the policies whose request side ran, in reverse order.
func (c *call) unwind() {
	if c.overlay != nil {
		c.overlay.Chain.Response(&c.x)
	}
	if c.entered {
		c.route.Chain.Response(&c.x)
	}
}

// end finishes the exchange after run has returned or panicked with v. It reports whether the connection is to be cut.
func (c *call) end(v any) (abort bool) {
	if v != nil {
		c.panicked(v)
	}
	if c.body != nil {
		c.out.BytesIn = c.body.detach()
	}
	if c.hasBody() {
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	c.x.Timings.Done = time.Now()
	if r := c.x.Refusal(); r != nil && !r.IsAnswer() && c.out.Code == "" {
		c.out.Code = r.Code()
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
	c.overlay, c.entered = nil, false
	c.refuse(c.server.refusals.internal)
}
