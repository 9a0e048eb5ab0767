package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"keyward.dev/dataplane/internal/conn"
)

// link is a connection to a target that is used again and again.
type link struct {
	conn   *conn.Conn
	socket *socket
	in     conn.Buffer
	pool   *pool

	uses  int    // answers received before
	since int64  // idle since; guarded by the pool's mu
	epoch uint64 // the pool's when it was made
}

// quiet says whether the link may be used once more.
func (l *link) quiet() bool { return l.still() && l.socket.quiet(l.conn.NetConn()) }

// still is quiet as far as it is known without asking the socket.
func (l *link) still() bool { return l.in.Len() == 0 && !l.conn.Expired() }

// quietFor is quiet for a call, which may ask the socket itself when it sends.
func (l *link) quietFor(c *call) bool {
	if c.inline() && !l.socket.tls {
		return l.still()
	}
	return l.quiet()
}

// truncated says whether the stream ended without TLS saying so.
func (l *link) truncated() bool { return l.socket.tls && l.socket.ended }

// dial connects to a target of the service: TCP, and TLS over it if the service says so.
func (s *service) dial(ctx context.Context, t *target) (net.Conn, *socket, error) {
	var config *tls.Config
	if s.trust != nil {
		var err error
		if config, err = s.trust.forTarget(t); err != nil {
			return nil, nil, err
		}
	}
	s.stats.dials.Add(1)
	c, err := s.dialer.DialContext(ctx, "tcp", t.Address())
	if err != nil {
		s.stats.dialFailures.Add(1)
		return nil, nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, nil, fmt.Errorf("dial upstream: %T is no TCP connection", c)
	}
	plain := newSocket(tcp)
	if config == nil {
		return plain, plain, nil
	}
	over, err := plain.handshake(ctx, config)
	if err != nil {
		s.stats.dialFailures.Add(1)
		c.Close()
		return nil, nil, err
	}
	return over, plain, nil
}

func (s *socket) handshake(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	s.tls, s.prompt = true, conn.NewPrompt(s.TCPConn)
	over := tls.Client(s, config)
	if err := over.HandshakeContext(ctx); err != nil {
		return nil, &handshakeError{err}
	}
	if want := config.NextProtos[0]; want == "h2" && over.ConnectionState().NegotiatedProtocol != want {
		return nil, &handshakeError{errors.New("the target does not speak HTTP/2")}
	}
	return over, nil
}
