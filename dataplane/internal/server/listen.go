package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/challenge"
	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sockets"
)

const (
	handshakeTimeout = 10 * time.Second
	// acceptPause follows an accept that failed, mostly because no more files may be open.
	acceptPause = 50 * time.Millisecond
	// Bounds of an HTTP/2 connection.
	maxStreams = 250
)

// bound is a listener that is bound to its address.
type bound struct {
	Listener
	server *Server
	ln     net.Listener
	// queue hands connections to net/http: those that speak HTTP/2, and all with Engine NetHTTP.
	queue *queue
	http  *http.Server
	// shared is set for a socket that others may have too: connections are taken from it only by who can serve them.
	shared bool
}

func (s *Server) bind(ctx context.Context, l Listener) (*bound, error) {
	ln, err := s.config.Sockets.Listen(ctx, l.Address)
	if err != nil {
		return nil, err
	}
	b := &bound{Listener: l, server: s, ln: ln, queue: newQueue(ln.Addr()), shared: sockets.IsInherited(l.Address)}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(s.config.Engine == NetHTTP || !l.TLS)
	protocols.SetHTTP2(l.TLS)
	b.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ConnContext:       withPeer,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: s.config.Timeouts.Write},
		ReadHeaderTimeout: s.config.Timeouts.Head,
		IdleTimeout:       s.config.Timeouts.Idle,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true,
	}
	return b, nil
}

// accept takes connections until the listener is closed.
func (b *bound) accept(ctx context.Context) error {
	if b.shared {
		select {
		case <-b.server.config.Loaded: // until then another gateway has them, or they wait
		case <-ctx.Done():
			return nil
		}
	}
	for {
		raw, err := b.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		if c := b.server.caps.admit(raw, b.server.maxConns()); c != nil {
			go b.greet(c) //nolint:contextcheck // a connection ends with its drain, not with the context
		}
	}
}

// maxConns is how many connections there may be.
func (s *Server) maxConns() int {
	limit := s.config.MaxConns
	if rt := s.config.Runtime.Load(); rt != nil && rt.Settings.MaxConns > 0 && (limit == 0 || rt.Settings.MaxConns < limit) {
		limit = rt.Settings.MaxConns
	}
	return limit
}

// greet does what comes before the first request, and serves the connection or hands it on.
func (b *bound) greet(c *client) {
	if err := b.introduce(c, b.server.config.Runtime.Load()); err != nil {
		b.server.config.Log.Debug("connection refused", "listener", b.Name, "peer", c.RemoteAddr().String(), "err", err)
		_ = c.Close()
		return
	}
	if !b.TLS {
		b.plain(c)
		return
	}
	b.secure(c)
}

// secure shakes hands first.
func (b *bound) secure(c *client) {
	c.prompt = conn.NewPrompt(c.TCPConn)
	secure := tls.Server(c, b.server.shake.base)
	if err := b.handshake(c, secure); err != nil {
		_ = c.Close()
		return
	}
	switch {
	case secure.ConnectionState().NegotiatedProtocol == challenge.Protocol: // the handshake is all there is (RFC 8737 section 3)
		_ = secure.Close()
	case secure.ConnectionState().NegotiatedProtocol == "h2":
		b.queue.put(secure)
	case b.server.config.Engine == NetHTTP:
		b.queue.put(&strictConn{Conn: secure, linger: b.server.config.Timeouts.Linger})
	default:
		go newH1(b.server, secure, c.remote, peerOf(secure)).serve() // on a stack that no handshake has grown
	}
}

func (b *bound) plain(c *client) {
	if b.server.config.Engine == NetHTTP {
		b.queue.put(&strictConn{Conn: c, linger: b.server.config.Timeouts.Linger})
		return
	}
	newH1(b.server, c, c.remote, nil).serve()
}

// introduce reads who the client is from a trusted proxy that says so, and looks whether it may have one more connection.
func (b *bound) introduce(c *client, rt *runtime.Runtime) error {
	if rt == nil {
		return nil
	}
	s := rt.Settings
	if s.Listeners[b.Name].ProxyProtocol && s.Trusted(c.remote.Addr()) {
		_ = c.SetReadDeadline(time.Now().Add(b.server.config.Timeouts.Head))
		from, err := readProxyHeader(c.TCPConn)
		if err != nil {
			return fmt.Errorf("read PROXY header: %w", err)
		}
		_ = c.SetReadDeadline(time.Time{})
		if from.IsValid() {
			c.setRemote(from)
		}
	}
	return b.server.caps.claim(c, s.MaxConnsPerClient)
}

func (b *bound) handshake(c *client, secure *tls.Conn) error {
	if !b.server.caps.handshake() {
		return errTooMany
	}
	defer b.server.caps.handshakes.Add(-1)
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := b.server.shake.run(secure); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// serveHTTP has net/http serve what is queued.
func (b *bound) serveHTTP(context.Context) error {
	err := b.http.Serve(b.queue)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", b.Name, err)
}

// queue is a listener whose connections are put there.
type queue struct {
	addr  net.Addr
	ready chan net.Conn
	done  chan struct{}
	close sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, ready: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(c net.Conn) {
	select {
	case q.ready <- c:
	case <-q.done:
		_ = c.Close()
	}
}

// Accept waits for a connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.ready:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (q *queue) Close() error {
	q.close.Do(func() { close(q.done) })
	return nil
}

// Addr returns the address of the listener that the connections came to.
func (q *queue) Addr() net.Addr { return q.addr }
