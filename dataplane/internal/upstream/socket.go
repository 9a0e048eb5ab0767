package upstream

import (
	"io"
	"net"
	"syscall"

	"keyward.dev/dataplane/internal/conn"
)

// socket is a TCP connection that can be asked, without waiting, whether something has come. TLS may run over it; then it
// also knows how the stream ended, which crypto/tls does not tell: without close_notify the end may be anybody's.
type socket struct {
	*net.TCPConn
	prompt *conn.Prompt // reads and writes for TLS; nil: not over TLS, or there is no such way
	raw    syscall.RawConn

	// look is a read that does not wait. The function is made once, so that looking allocates nothing.
	look struct {
		into []byte // nil: only look, take nothing
		n    int
		err  error
		try  func(fd uintptr) bool
	}
	one [1]byte

	tls     bool
	probing bool // reads do not wait
	ended   bool // the peer has closed its side, or the connection broke
	records records
}

func newSocket(c *net.TCPConn) *socket {
	s := &socket{TCPConn: c}
	if raw, err := c.SyscallConn(); err == nil && canLook {
		s.raw = raw
		s.look.try = func(fd uintptr) bool {
			s.look.n, s.look.err = lookAt(fd, s.look.into)
			return true
		}
	}
	return s
}

// errNothing says that nothing has come. crypto/tls goes on after it because it is temporary.
type errNothing struct{}

func (errNothing) Error() string   { return "nothing has come" }
func (errNothing) Timeout() bool   { return true }
func (errNothing) Temporary() bool { return true }

// Read is what crypto/tls reads with.
func (s *socket) Read(p []byte) (int, error) {
	var n int
	var err error
	switch {
	case s.probing:
		n, err = s.readNow(p)
	case s.prompt != nil:
		n, err = s.prompt.Read(p)
	default:
		n, err = s.TCPConn.Read(p)
	}
	if err == io.EOF { //nolint:errorlint // net never wraps it
		s.ended = true
	}
	if s.tls {
		s.records.add(p[:n])
	}
	return n, err
}

// Write is what crypto/tls writes with.
func (s *socket) Write(p []byte) (int, error) {
	if s.prompt != nil {
		return s.prompt.Write(p)
	}
	return s.TCPConn.Write(p)
}

// readNow reads what is there.
func (s *socket) readNow(p []byte) (int, error) {
	s.look.into = p
	err := s.raw.Read(s.look.try)
	s.look.into = nil
	switch {
	case err != nil:
		return 0, err
	case s.look.err != nil:
		return 0, s.look.err
	case s.look.n == 0:
		return 0, io.EOF
	}
	return s.look.n, nil
}

// quiet says whether nothing has come since the last answer, not even the end: only then may the connection be used once
// more. over is what is read from, the socket itself or TLS over it. Where it cannot be found out it is taken for granted.
func (s *socket) quiet(over net.Conn) bool {
	if s.raw == nil {
		return true
	}
	if !s.tls {
		err := s.raw.Read(s.look.try)
		return err == nil && s.look.err == errNothing{} //nolint:errorlint // ours, and never wrapped
	}
	s.probing = true
	n, err := over.Read(s.one[:]) // takes what is for TLS itself, such as session tickets
	s.probing = false
	return n == 0 && isNothing(err) && s.records.between()
}

func isNothing(err error) bool {
	_, ok := err.(errNothing) //nolint:errorlint // crypto/tls does not wrap it
	return ok
}

// records follows the records of a TLS stream, to know whether it stands between two of them: part of a record may wait
// inside crypto/tls without it telling.
type records struct {
	header [5]byte
	have   int // bytes of the header
	left   int // bytes of the record after it
}

func (r *records) add(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left -= n
			p = p[n:]
			continue
		}
		n := copy(r.header[r.have:], p)
		r.have += n
		p = p[n:]
		if r.have == len(r.header) {
			r.left, r.have = int(r.header[3])<<8|int(r.header[4]), 0
		}
	}
}

func (r *records) between() bool { return r.have == 0 && r.left == 0 }
