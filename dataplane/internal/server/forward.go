package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"keyward.dev/dataplane/internal/upstream"
)

// forward sends the request to the service and its response to the client.
func (c *call) forward(ctx context.Context) {
	if c.hops() {
		return
	}
	c.announce()
	c.prepare()
	if c.body.stopped { // it could not be read ahead, or all of it was there and a policy refused it
		c.bodyRefused()
		return
	}
	c.x.Timings.UpstreamStarted = c.x.Timings.Now()
	c.forwarded = true
	err := c.server.config.Upstreams.Do(ctx, &c.request, &c.resp)
	c.x.Timings.UpstreamHead = c.x.Timings.Now()
	switch {
	case err == nil && c.resp.Status == http.StatusSwitchingProtocols:
		c.tunnel()
	case err == nil:
		c.respond()
	default:
		c.resp.Close() // nobody reads the body any more
		if c.body.stopped {
			// Whatever else was said of the exchange: net/http takes a client that is slow for one that is gone.
			c.bodyRefused()
			return
		}
		c.failed(ctx, err)
	}
}

// hops counts Max-Forwards down, which OPTIONS and TRACE may carry (RFC 9110 section 7.6.2). It answers, and says so, if
// the request goes no further than here.
func (c *call) hops() bool {
	q := &c.x.Request
	if m := string(q.Method); m != http.MethodOptions && m != http.MethodTrace {
		return false
	}
	text := string(q.Header.Get("Max-Forwards"))
	n, err := strconv.ParseUint(text, 10, 31)
	switch {
	case err != nil:
		return false
	case n > 0:
		q.Header.Set(c.field("Max-Forwards", strconv.FormatUint(n-1, 10)))
		return false
	case string(q.Method) == http.MethodTrace: // to say back what was received would show fields that only proxies add
		c.refuse(c.server.refusals.badMethod)
	default:
		c.refuse(c.server.refusals.lastHop)
	}
	return true
}

// prepare writes down what is sent to the service.
func (c *call) prepare() {
	q := &c.x.Request
	q.Header.Del("Content-Length")
	q.Header.Del("Expect")
	q.Header.Del("Host")
	r := &c.request // all of it is set, in place
	r.Service, r.Options, r.Settings = c.route.Service, c.route.Call, c.rt.Settings
	r.Method, r.Path, r.Query, r.Host = q.Method, c.path(), q.Query, c.host
	r.Header, r.ContentLength, r.Body, r.Upgrade = q.Header, q.ContentLength, nil, c.upgrade
	r.ClientIP, r.Client, r.Informational = q.ClientIP, c.h1.client(), c.informational
	if q.ContentLength != 0 {
		c.body.begin(c)
		r.Body = &c.body
	}
}

// path is what is forwarded: what was matched, rewritten as the route says, below the service's own path.
func (c *call) path() []byte {
	path, r := c.x.Request.Path, c.route
	if r.StripPrefix && c.prefix > 0 {
		path = path[c.prefix:]
	}
	if r.Service.Path == "" && r.AddPrefix == "" && len(path) > 0 && path[0] == '/' {
		return path
	}
	b := c.x.Alloc(len(r.Service.Path) + len(r.AddPrefix) + len(path) + 1)
	b = append(append(b, r.Service.Path...), r.AddPrefix...)
	if len(path) > 0 && path[0] != '/' || len(b)+len(path) == 0 {
		b = append(b, '/')
	}
	return append(b, path...)
}

// bodyRefused answers for a body that was refused.
func (c *call) bodyRefused() {
	if c.clientGone() {
		return
	}
	if r := c.body.refused; r != nil {
		c.x.Answer(r)
	}
	c.respondLocally()
}

// clientGone says whether there is nobody to be answered, because the body that was read ahead did not come.
func (c *call) clientGone() bool {
	if c.body.gone {
		c.abort, c.out.Code = true, c.body.refused.Code()
	}
	return c.body.gone
}

// failed answers for an upstream that did not.
func (c *call) failed(ctx context.Context, err error) {
	no := c.server.refusals
	r, retry := no.unreachable, time.Duration(0)
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		c.out.Code = e.Code
		switch e.Status {
		case 0:
			c.abort = true // nobody is there to be answered
			return
		case 503:
			r = no.unavailable(e.Code)
			retry = e.RetryAfter
		case 504:
			r = no.upstreamTimeout
		}
	}
	c.server.config.Log.DebugContext(ctx, "upstream failed", "route", c.x.Route.Name, "service", c.x.Route.Service, "err", err)
	c.x.Answer(r)
	if retry > 0 {
		seconds := strconv.FormatInt(int64((retry+time.Second-1)/time.Second), 10)
		c.x.Response.Header.Set(c.field("Retry-After", seconds))
	}
	c.respondLocally()
}

// respond sends the upstream's response.
func (c *call) respond() {
	x := &c.x
	x.Response.Status = c.resp.Status
	x.Response.Header = append(x.Response.Header[:0], c.resp.Header...)
	length := c.resp.ContentLength
	c.unwind()
	if x.Response.Local {
		c.resp.Close()
		c.writeLocal()
		return
	}
	c.begin(length)
	if !c.withBody() {
		if err := c.wire.finish(nil); err != nil {
			c.broke("client_gone")
		}
		return
	}
	c.copyBody()
}

// copyBody streams the response.
func (c *call) copyBody() {
	w, flush := c.wire, c.resp.Flush()
	for {
		p, err := c.resp.Next()
		if ended(err) {
			break
		}
		if err != nil {
			c.broke("upstream_aborted")
			return
		}
		c.out.BytesOut += int64(len(p))
		last := c.resp.ContentLength >= 0 && c.out.BytesOut >= c.resp.ContentLength
		if err := w.write(p, flush || !last); err != nil {
			c.broke("client_gone")
			return
		}
		if !last && !c.stream.listed() {
			c.server.streams.add(c)
		}
	}
	if err := w.finish(c.resp.Trailer()); err != nil {
		c.broke("client_gone")
	}
}

// broke ends a response that cannot be completed: the client must not take it for whole.
func (c *call) broke(code string) {
	if code = c.stream.reason(code); c.out.Code == "" {
		c.out.Code = code
	}
	c.abort = true
}
