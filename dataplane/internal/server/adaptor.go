package server

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

const copyBytes = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }} //nolint:gochecknoglobals // memory, not state

// adaptor is the wire of a request that net/http has read.
type adaptor struct {
	w    http.ResponseWriter
	r    *http.Request
	ctl  *http.ResponseController
	call *call
	buf  *[copyBytes]byte
	idle time.Duration
	left int64 // of the data of a stream that says its length, until its end

	sending sync.Mutex
	begins  bool // guarded by sending
}

// serveHTTP gives an exchange to a request of net/http's.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c := s.take()
	a := &adaptor{w: w, r: r, ctl: http.NewResponseController(w), call: c}
	c.wire = a
	s.active.Add(1)
	defer func() {
		v := recover()
		abort := c.end(v)
		a.release(c)
		s.give(c)
		s.active.Add(-1)
		if abort {
			panic(http.ErrAbortHandler)
		}
	}()
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	secure, _ := r.Context().Value(peerKey{}).(*clientcert.Peer)
	c.arrived(peer, secure)
	if bad := a.fill(c); bad != nil {
		c.refuse(bad)
		return
	}
	c.run(r.Context())
}

func (a *adaptor) release(c *call) {
	if a.buf != nil {
		copyBuffers.Put(a.buf)
	}
	if c.x.Request.ContentLength != 0 {
		_ = a.ctl.SetReadDeadline(time.Now().Add(a.call.server.config.Timeouts.Linger))
	}
}

// fill writes down the request as it was received. Field names and values, and the framing of HTTP/1.1, have been checked
// for form by net/http and the guard before it.
func (a *adaptor) fill(c *call) *exchange.Refusal {
	q, r := &c.x.Request, a.r
	q.Method = c.copy(r.Method)
	q.RawTarget = c.copy(r.RequestURI)
	q.Proto = r.ProtoMajor*10 + r.ProtoMinor
	q.ContentLength = r.ContentLength
	if r.Body == http.NoBody {
		q.ContentLength = 0
	}
	c.host = c.copy(r.Host)
	c.peer = c.copy(q.RemoteAddr.Addr().Unmap().WithZone("").String())
	c.headBytes = len(r.Method) + len(r.RequestURI) + len(r.Host) + len(" HTTP/1.1\r\nHost: \r\n\r\n")
	for name, values := range r.Header {
		for _, v := range values {
			c.headBytes += len(name) + len(v) + len(": \r\n")
			c.headFields++
			q.Header.Add(c.field(name, v))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Trailer)) { // net/http took the announcement from the fields
		if f := c.field("Trailer", name); httpwire.ValidTrailerName(f.Value) {
			q.Header.Add(f)
		}
	}
	if q.Proto == 20 {
		return a.malformed(c)
	}
	return nil
}

// malformed refuses what RFC 9113 sections 8.1.1 and 8.3.1 call malformed and net/http takes: it would be another request
// once it is written down in HTTP/1.1.
func (a *adaptor) malformed(c *call) *exchange.Refusal {
	no, q, h := c.server.refusals, &c.x.Request, a.r.Header
	if !httpwire.IsToken(q.Method) {
		return no.badRequest
	}
	if !bytes.HasPrefix(q.RawTarget, []byte("/")) && string(q.RawTarget) != "*" && string(q.Method) != http.MethodConnect {
		return no.badTarget
	}
	if hosts := h["Host"]; len(hosts) > 1 || len(hosts) == 1 && hosts[0] != a.r.Host {
		return no.badHost
	}
	lengths := h["Content-Length"]
	if len(lengths) == 0 {
		return nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil || len(lengths) > 1 || int64(n) != a.r.ContentLength {
		return no.badRequest
	}
	if a.left = int64(n); n > 0 {
		return nil
	}
	_ = a.ctl.SetReadDeadline(time.Now().Add(c.server.config.Timeouts.Head))
	switch err := a.ends(); {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return no.timeout
	}
	return no.badRequest
}

// ends waits for the end of a stream that has got all of the data its content-length promises: with more it is malformed,
// and a malformed message must not be forwarded (RFC 9113 section 8.1.1). The upstream would have the whole of it by then.
func (a *adaptor) ends() error {
	var more [1]byte
	for {
		switch n, err := a.r.Body.Read(more[:]); {
		case n > 0:
			return errMalformedBody
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (a *adaptor) whole() ([]byte, bool) { return nil, false }

func (a *adaptor) read() ([]byte, error) {
	if a.buf == nil {
		a.buf, _ = copyBuffers.Get().(*[copyBytes]byte)
		a.idle = a.call.route.Call.Idle
	}
	_ = a.ctl.SetReadDeadline(time.Now().Add(a.idle))
	defer func() { _ = a.ctl.SetReadDeadline(time.Time{}) }() // it ends a body, or a connection, that nobody reads from
	if a.r.ProtoMajor < 2 {                                   // reading may write a 100 Continue: to HTTP/2 that is but a frame
		a.writeBy()
	}
	for {
		n, err := a.r.Body.Read(a.buf[:])
		if n > 0 && a.left > 0 {
			if a.left -= int64(n); a.left == 0 {
				if err := a.ends(); err != nil {
					return nil, err
				}
			}
		}
		if n > 0 {
			return a.buf[:n], nil // an error comes again
		}
		if err != nil {
			return nil, err
		}
	}
}

func (a *adaptor) trailer() exchange.Headers {
	var out exchange.Headers
	for name, values := range a.r.Trailer {
		for _, v := range values {
			if f := exchange.Field(name, v); httpwire.ValidTrailerName(f.Name) {
				out = append(out, f)
			}
		}
	}
	return out
}

// writeBy bounds the time that a client has to take what is written next.
func (a *adaptor) writeBy() {
	_ = a.ctl.SetWriteDeadline(time.Now().Add(a.call.server.config.Timeouts.Write))
}

// written stops that time until there is more to write: when it is over, net/http resets a stream of HTTP/2, whether there is
// anything that the client could have taken or not.
func (a *adaptor) written() {
	if a.r.ProtoMajor >= 2 {
		_ = a.ctl.SetWriteDeadline(time.Time{})
	}
}

func (a *adaptor) interrupt() { _ = a.ctl.SetReadDeadline(time.Unix(1, 0)) }

func (a *adaptor) abort() {
	_ = a.ctl.SetReadDeadline(time.Unix(1, 0))
	_ = a.ctl.SetWriteDeadline(time.Unix(1, 0))
}

func (a *adaptor) interim(status int, h exchange.Headers) {
	a.sending.Lock()
	defer a.sending.Unlock()
	if a.begins || !a.r.ProtoAtLeast(1, 1) {
		return
	}
	out := a.w.Header()
	for _, f := range h {
		if !exchange.EqualFold(f.Name, "Content-Length") { // RFC 9110 section 8.6
			out.Add(string(f.Name), string(f.Value))
		}
	}
	a.writeBy()
	a.w.WriteHeader(status)
	a.written()
	clear(out)
}

func (a *adaptor) begin(c *call, length int64) {
	a.sending.Lock()
	a.begins = true
	a.sending.Unlock()
	h := a.w.Header()
	h["Content-Type"] = nil // else net/http would guess one
	for _, f := range c.x.Response.Header {
		name := textproto.CanonicalMIMEHeaderKey(string(f.Name))
		if name != "Content-Length" {
			h[name] = append(h[name], string(f.Value))
		}
	}
	if length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	if c.server.draining.Load() || c.body.stopped || c.last || c.early() {
		h.Set("Connection", "close") // what is left of a refused body is not worth reading
	}
	if c.x.Response.Status == http.StatusSwitchingProtocols {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", string(c.upgrade))
	}
	a.w.WriteHeader(c.x.Response.Status)
}

// early says whether the upstream answers before it has got all of the body. Unless the connection ends then, net/http
// reads on over HTTP/1 before it sends a head: from a client that waits for the answer, until the time for that is over.
func (c *call) early() bool {
	q := &c.x.Request
	return c.forwarded && q.Proto < 20 && q.ContentLength != 0 && c.body.unread(q.ContentLength)
}

func (a *adaptor) write(p []byte, flush bool) error {
	a.writeBy()
	if len(p) > 0 {
		if _, err := a.w.Write(p); err != nil {
			return err
		}
	}
	if flush && a.call.x.Response.Status != http.StatusSwitchingProtocols {
		defer a.written()
		return a.ctl.Flush()
	}
	return nil
}

// finish leaves to net/http to send the end.
func (a *adaptor) finish(trailer exchange.Headers) error {
	a.writeBy()
	for _, f := range trailer {
		if !httpwire.ValidTrailerName(f.Name) {
			continue
		}
		a.w.Header().Add(http.TrailerPrefix+string(f.Name), string(f.Value))
	}
	return nil
}

// hijack takes the connection from net/http, which has sent the 101, and from the guard before it.
func (a *adaptor) hijack(c *call) (*conn.Conn, []byte, error) {
	raw, rw, err := a.ctl.Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := rw.Flush(); err != nil {
		_ = raw.Close()
		return nil, nil, err
	}
	early := make([]byte, rw.Reader.Buffered())
	if _, err := io.ReadFull(rw, early); err != nil {
		_ = raw.Close()
		return nil, nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	below := raw
	if s, ok := raw.(*strictConn); ok {
		below = s.Conn
		early = append(early, s.buf...)
	}
	return conn.New(below, c.server.config.Sweeper), early, nil
}

// originForm returns the target without what an absolute form puts before the path. The authority of an absolute form is
// the host (RFC 9112 section 3.2.2); the wire has taken it as such.
func (c *call) originForm() ([]byte, bool) {
	target := c.x.Request.RawTarget
	if len(target) > 0 && target[0] == '/' {
		return target, true
	}
	lower := strings.ToLower(string(target[:min(len(target), 8)]))
	for _, scheme := range []string{"http://", "https://"} {
		if !strings.HasPrefix(lower, scheme) {
			continue
		}
		rest := target[len(scheme):]
		i := strings.IndexAny(string(rest), "/?")
		switch {
		case i < 0:
			return c.copy("/"), true
		case rest[i] == '?':
			return append(c.copy("/"), rest[i:]...), true
		}
		return rest[i:], true
	}
	return nil, false
}

var (
	errSlowBody   = &slowError{"the client sends too slowly"}
	errSlowClient = &slowError{"the client takes too slowly"}
)

// slowError is a deadline that has passed.
type slowError struct{ text string }

func (e *slowError) Error() string { return e.text }

// Timeout says that it is one.
func (e *slowError) Timeout() bool { return true }

// Temporary is there for net.Error.
func (e *slowError) Temporary() bool { return false }
