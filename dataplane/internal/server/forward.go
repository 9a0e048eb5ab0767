package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/upstream"
)

const copyBytes = 32 << 10

// forward sends the request to the service and its response to the client.
func (c *call) forward(ctx context.Context) {
	c.announce()
	up := c.upstreamCall()
	c.x.Timings.UpstreamStarted = time.Now()
	resp, err := c.server.config.Upstreams.Do(ctx, up)
	c.x.Timings.UpstreamHead = time.Now()
	if c.refusedBody() {
		if err == nil {
			resp.Body.Close()
		}
		return
	}
	if err != nil {
		c.failed(ctx, err)
		return
	}
	defer resp.Body.Close()
	c.respond(resp)
}

// upstreamCall writes down what is sent to the service.
func (c *call) upstreamCall() *upstream.Call {
	q := &c.x.Request
	up := &upstream.Call{
		Service: c.route.Service, Settings: c.rt.Settings, Method: string(q.Method), Path: c.path(), Query: q.Query,
		ClientHost: c.r.Host, ContentLength: q.ContentLength, Header: make(http.Header, len(q.Header)),
	}
	for _, f := range q.Header {
		name := textproto.CanonicalMIMEHeaderKey(string(f.Name))
		if name != "Content-Length" && name != "Expect" && name != "Host" {
			up.Header[name] = append(up.Header[name], string(f.Value))
		}
	}
	if c.hasBody() {
		ctl := http.NewResponseController(c.w)
		_ = ctl.SetWriteDeadline(time.Now().Add(writeTimeout)) // reading may write a 100 Continue
		c.body = &requestBody{body: c.r.Body, ctl: ctl, limit: c.rt.Settings.MaxBody, idle: c.route.Service.Idle, call: c}
		up.Body = c.body
	}
	return up
}

func (c *call) hasBody() bool { return c.x.Request.ContentLength != 0 && c.r.Body != http.NoBody }

// path is what is forwarded: what was matched, rewritten as the route says, below the service's own path.
func (c *call) path() string {
	path := string(c.x.Request.Path)
	if c.route.StripPrefix && c.prefix > 0 {
		path = path[c.prefix:]
		if path != "" && path[0] != '/' {
			path = "/" + path
		}
	}
	path = c.route.Service.Path + c.route.AddPrefix + path
	if path == "" {
		return "/"
	}
	return path
}

// refusedBody answers if the body was refused while it was forwarded.
func (c *call) refusedBody() bool {
	if c.body == nil {
		return false
	}
	r, stopped := c.body.verdict()
	if !stopped {
		return false
	}
	c.w.Header().Set("Connection", "close") // the rest of the body is not worth reading
	if r != nil {
		c.exclusively(func() { c.x.Answer(r) })
	}
	c.respondLocally()
	return true
}

// failed answers for an upstream that did not.
func (c *call) failed(ctx context.Context, err error) {
	no := c.server.refusals
	r := no.unreachable
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		c.out.Code = e.Code
		switch e.Status {
		case 0:
			c.abort = true // nobody is there to be answered
			return
		case 503:
			r = no.noTarget
		case 504:
			r = no.upstreamTimeout
		}
	}
	c.server.config.Log.DebugContext(ctx, "upstream failed", "route", c.x.Route.Name, "service", c.x.Route.Service, "err", err)
	c.refuse(r)
}

// respond sends the upstream's response.
func (c *call) respond(resp *http.Response) {
	x := &c.x
	c.exclusively(func() {
		x.Response.Status = resp.StatusCode
		for name, values := range resp.Header {
			for _, v := range values {
				x.Response.Header.Add(exchange.Header{Name: c.copy(name), Value: c.copy(v)})
			}
		}
		dropHopByHop(&x.Response.Header)
		c.unwind()
	})
	if x.Response.Local {
		c.writeLocal()
		return
	}
	c.writeHead(resp.ContentLength)
	c.copyBody(resp)
}

// respondLocally sends the answer that the exchange holds.
func (c *call) respondLocally() {
	c.exclusively(c.unwind)
	c.writeLocal()
}

func (c *call) writeLocal() {
	x := &c.x
	c.w.Header().Set("Server", "keyward")
	bodyless := x.Response.Status == http.StatusNoContent || x.Response.Status == http.StatusNotModified
	length := int64(len(x.Response.Body))
	if bodyless {
		length = -1
	}
	x.Response.Header.Del("Content-Length")
	c.writeHead(length)
	if bodyless || c.r.Method == http.MethodHead {
		return
	}
	n, err := c.w.Write(x.Response.Body)
	c.out.BytesOut += int64(n)
	c.abort = c.abort || err != nil
}

// writeHead sends status and fields. A length of -1 leaves the framing to the wire.
func (c *call) writeHead(length int64) {
	h := c.w.Header()
	h["Content-Type"] = nil // else net/http would guess one
	for _, f := range c.x.Response.Header {
		name := textproto.CanonicalMIMEHeaderKey(string(f.Name))
		h[name] = append(h[name], string(f.Value))
	}
	if c.x.Response.Local && length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	if c.server.Draining() {
		h.Set("Connection", "close")
	}
	c.x.Timings.HeadSent = time.Now()
	_ = http.NewResponseController(c.w).SetWriteDeadline(c.x.Timings.HeadSent.Add(writeTimeout))
	c.headSent = true
	c.out.Status = c.x.Response.Status
	c.w.WriteHeader(c.x.Response.Status)
}

// copyBody streams the response. Bodies without a length are sent on at once: somebody may wait for each piece.
func (c *call) copyBody(resp *http.Response) {
	buf, _ := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buf)
	ctl := http.NewResponseController(c.w)
	for {
		n, err := resp.Body.Read(buf[:])
		if n > 0 {
			_ = ctl.SetWriteDeadline(time.Now().Add(c.route.Service.Idle + writeTimeout))
			written, werr := c.w.Write(buf[:n])
			c.out.BytesOut += int64(written)
			if werr == nil && resp.ContentLength < 0 {
				werr = ctl.Flush()
			}
			if werr != nil {
				c.broke("client_gone")
				return
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			c.broke("upstream_aborted")
			return
		}
	}
	for name, values := range resp.Trailer {
		if !hopByHop([]byte(name)) {
			c.w.Header()[http.TrailerPrefix+name] = values
		}
	}
}

// broke ends a response that cannot be completed: the client must not take it for whole.
func (c *call) broke(code string) {
	if errors.Is(c.r.Context().Err(), context.Canceled) {
		code = "client_gone"
	}
	c.out.Code, c.abort = code, true
}

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}
