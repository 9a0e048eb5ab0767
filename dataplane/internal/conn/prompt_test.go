package conn_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/net/nettest"

	"keyward.dev/dataplane/internal/conn"
)

// TestPromptIsAConnection: what is read and written promptly keeps to all that is promised of a connection: deadlines, ends,
// reads and writes from many sides at once.
func TestPromptIsAConnection(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
		a, b = tcp(t)
		a, b = conn.Promptly(a), conn.Promptly(b)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestPromptSaysWhatFailed(t *testing.T) {
	t.Parallel()
	a, b := tcp(t)
	a = conn.Promptly(a)
	if c, ok := b.(*net.TCPConn); !ok || c.SetLinger(0) != nil || c.Close() != nil {
		t.Fatal("cannot reset the connection")
	}
	_, err := a.Read(make([]byte, 1))
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || !errors.Is(err, syscall.ECONNRESET) || op.Op != "read" || op.Addr.String() != b.LocalAddr().String() {
		t.Errorf("Read() of a connection that was reset = %v", err)
	}
	if n, err := a.Read(nil); n != 0 || err != nil {
		t.Errorf("Read() of nothing = %d, %v", n, err)
	}
	if n, err := a.Write(nil); n != 0 || err != nil {
		t.Errorf("Write() of nothing = %d, %v", n, err)
	}
}

func TestPromptAllocatesNothing(t *testing.T) {
	a, b := tcp(t)
	p := conn.Promptly(a)
	go func() {
		buf := make([]byte, 1)
		for {
			if _, err := b.Read(buf); err != nil {
				return
			}
			if _, err := b.Write(buf); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := p.Write(buf); err != nil {
			t.Error(err)
		}
		if _, err := p.Read(buf); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("a message and its answer take %v allocations", n)
	}
}
