package conn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Prompt reads and writes a TCP connection by system calls that Go's scheduler is not told of, since they never wait: what
// it is told of wakes the runtime's monitor, if that sleeps, and then the monitor looks around every 20 µs for a
// millisecond. On a connection that is quiet otherwise this costs as much as the rest of a message.
type Prompt struct {
	conn    *net.TCPConn
	socket  syscall.RawConn
	in, out transfer
}

// transfer is one direction. The function is made once, so that nothing is allocated.
type transfer struct {
	mu  sync.Mutex // held by whoever reads, or writes
	p   []byte
	n   int
	err error
	try func(fd uintptr) bool
}

// NewPrompt returns a reader and writer of the connection; nil where there is no such way.
func NewPrompt(c *net.TCPConn) *Prompt {
	raw, err := c.SyscallConn()
	if err != nil || !socketReads {
		return nil
	}
	p := &Prompt{conn: c, socket: raw}
	p.in.try, p.out.try = p.in.read, p.out.write
	return p
}

// Read implements net.Conn.
func (p *Prompt) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &p.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.err = b, 0, nil
	err := p.socket.Read(t.try)
	t.p = nil
	switch {
	case err != nil:
		return 0, err
	case t.err != nil:
		return 0, p.failed("read", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements net.Conn.
func (p *Prompt) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &p.out
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.err = b, 0, nil
	err := p.socket.Write(t.try)
	t.p = nil
	if err == nil && t.err != nil {
		err = p.failed("write", t.err)
	}
	return t.n, err
}

func (p *Prompt) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: p.conn.LocalAddr(), Addr: p.conn.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

func (t *transfer) read(fd uintptr) bool {
	n, err := readSocket(fd, t.p)
	if err == syscall.EAGAIN { //nolint:errorlint // a plain errno
		return false
	}
	t.n, t.err = max(n, 0), err
	return true
}

func (t *transfer) write(fd uintptr) bool {
	for t.n < len(t.p) {
		n, err := writeSocket(fd, t.p[t.n:])
		if err == syscall.EAGAIN { //nolint:errorlint // a plain errno
			return false
		}
		if err != nil {
			t.err = err
			return true
		}
		t.n += n
	}
	return true
}

// promptConn is a connection that is read and written promptly.
type promptConn struct {
	*net.TCPConn
	prompt *Prompt
}

func (c promptConn) Read(b []byte) (int, error)  { return c.prompt.Read(b) }
func (c promptConn) Write(b []byte) (int, error) { return c.prompt.Write(b) }

// Promptly returns the connection read and written as Prompt does, or as it is if it is not over TCP.
func Promptly(c net.Conn) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		if p := NewPrompt(tcp); p != nil {
			return promptConn{tcp, p}
		}
	}
	return c
}
