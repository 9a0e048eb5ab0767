package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/runtime"
)

// newRequest writes down what is sent. The path goes out byte for byte as it was matched.
func newRequest(ctx context.Context, c *Call, target string, w *watch) *http.Request {
	u := &url.URL{Scheme: "http", Host: target, RawQuery: string(c.Query), ForceQuery: c.Query != nil && len(c.Query) == 0}
	if c.Service.TLS {
		u.Scheme = "https"
	}
	if path := c.Path; strings.HasPrefix(path, "//") {
		// Opaque would make it an absolute form; this keeps it too, at the cost of decoding it.
		u.RawPath = path
		u.Path, _ = url.PathUnescape(path)
	} else {
		u.Opaque = path
	}
	req := &http.Request{
		Method: c.Method, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.Header, Host: host(c, target), ContentLength: c.ContentLength,
	}
	if _, ok := c.Header["User-Agent"]; !ok {
		c.Header["User-Agent"] = nil // else net/http would name itself
	}
	if c.Body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Body = &requestBody{body: c.Body, watch: w, idle: c.Service.Idle}
	}
	return req.WithContext(httptrace.WithClientTrace(ctx, w.trace()))
}

func host(c *Call, target string) string {
	switch c.Service.Host {
	case runtime.HostPreserve:
		return c.ClientHost
	case runtime.HostLiteral:
		return c.Service.HostName
	case runtime.HostUpstream:
	}
	standard := ":80"
	if c.Service.TLS {
		standard = ":443"
	}
	return strings.TrimSuffix(target, standard)
}

// watch ends a call that does not get on. Only one thing is waited for at a time.
type watch struct {
	cancel context.CancelCauseFunc
	total  *time.Timer

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil before the first start
	cause error       // guarded by mu
	live  bool        // guarded by mu: the timer counts
	ended bool        // guarded by mu
}

func newWatch(ctx context.Context, s *runtime.Service) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{cancel: cancel}
	if s.Total > 0 {
		w.total = time.AfterFunc(s.Total, func() { cancel(errTotal) })
	}
	return ctx, w
}

// start ends the call with cause after d, unless stopped.
func (w *watch) start(d time.Duration, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.cause, w.live = cause, true
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.expire)
		return
	}
	w.timer.Reset(d)
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = false
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live {
		w.cancel(w.cause)
	}
}

// end releases everything the call holds.
func (w *watch) end() {
	w.mu.Lock()
	w.ended, w.live = true, false
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	if w.total != nil {
		w.total.Stop()
	}
	w.cancel(context.Canceled)
}

func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { w.stop() }}
}

// requestBody watches that the upstream takes what it is given. How fast the client gives is the server's to watch.
type requestBody struct {
	body  io.Reader
	watch *watch
	idle  time.Duration
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.watch.stop()
	n, err := b.body.Read(p)
	if err == nil {
		b.watch.start(b.idle, errIdle)
	}
	return n, err
}

// Close does nothing: the body is the server's.
func (b *requestBody) Close() error { return nil }

// responseBody watches that the upstream goes on sending.
type responseBody struct {
	body  io.ReadCloser
	watch *watch
	idle  time.Duration
}

func (b *responseBody) Read(p []byte) (int, error) {
	b.watch.start(b.idle, errIdle)
	n, err := b.body.Read(p)
	b.watch.stop()
	return n, err
}

// Close ends the call.
func (b *responseBody) Close() error {
	err := b.body.Close()
	b.watch.end()
	return err
}
