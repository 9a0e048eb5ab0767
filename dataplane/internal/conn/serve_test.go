package conn_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/conn"
)

// serving runs Serve as its users do, giving what is in the buffer to each, until that returns false. It returns what
// ended it.
func serving(c *conn.Conn, limit int, each func(p []byte) bool) error {
	var b conn.Buffer
	left := false
	use := func() bool {
		left = !each(b.Bytes())
		b.Discard(b.Len())
		b.Release()
		return !left
	}
	for !left {
		if err := c.Serve(&b, limit, use); err != nil {
			return err
		}
		if !left && b.Len() > 0 {
			use()
		}
	}
	return nil
}

func TestServeGivesAllThatComes(t *testing.T) {
	t.Parallel()
	for name, transport := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := transport(t)
			c := conn.New(ours, swept(t))
			done := make(chan error, 1)
			go func() {
				done <- serving(c, 1<<20, func(p []byte) bool {
					_, err := c.Write(p)
					return err == nil
				})
			}()
			_ = theirs.SetDeadline(time.Now().Add(patience))
			for _, size := range []int{1, 10, 8 << 10, 8<<10 + 1, 100, 64 << 10, 1} {
				sent, got := make([]byte, size), make([]byte, size)
				count(sent, size)
				if _, err := theirs.Write(sent); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(theirs, got); err != nil || string(got) != string(sent) {
					t.Fatalf("of %d bytes came back %d others, %v", size, len(got), err)
				}
			}
			if theirs.Close(); !errors.Is(await(t, "the end", done), io.EOF) {
				t.Error("the end of the connection is no io.EOF")
			}
		})
	}
}

// What comes while serve runs wakes nobody: it must not wait for more.
func TestServeMissesNothingThatComesMeanwhile(t *testing.T) {
	t.Parallel()
	ours, theirs := tcp(t)
	c := conn.New(ours, swept(t))
	got, goOn, done := make(chan string), make(chan bool), make(chan error, 1)
	go func() {
		done <- serving(c, 1<<20, func(p []byte) bool {
			got <- string(p)
			return <-goOn
		})
	}()
	for range 1000 {
		if _, err := io.WriteString(theirs, "first"); err != nil {
			t.Fatal(err)
		}
		if s := await(t, "the first piece", got); s != "first" {
			t.Fatalf("got %q", s)
		}
		if _, err := io.WriteString(theirs, "second"); err != nil {
			t.Fatal(err)
		}
		goOn <- true
		if s := await(t, "the second piece", got); s != "second" {
			t.Fatalf("got %q", s)
		}
		goOn <- true
	}
	if _, err := io.WriteString(theirs, "last"); err != nil {
		t.Fatal(err)
	}
	await(t, "the last piece", got)
	if _, err := io.WriteString(theirs, "more"); err != nil {
		t.Fatal(err)
	}
	goOn <- false
	if err := await(t, "the end", done); err != nil {
		t.Errorf("Serve() = %v after serve has returned false", err)
	}
	var b conn.Buffer
	if err := c.Fill(&b, 100); err != nil || string(b.Bytes()) != "more" {
		t.Errorf("Fill() afterwards = %q, %v", b.Bytes(), err)
	}
}

// The end of a connection that came with the last piece wakes nobody either.
func TestServeNoticesAnEndThatCameWithAPiece(t *testing.T) {
	t.Parallel()
	for range 50 {
		ours, theirs := tcp(t)
		if _, err := io.WriteString(theirs, "all"); err != nil {
			t.Fatal(err)
		}
		if err := theirs.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c := conn.New(ours, swept(t))
		done := make(chan error, 1)
		go func() { done <- serving(c, 100, func([]byte) bool { return true }) }()
		if err := await(t, "the end", done); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Serve() = %v", err)
		}
		ours.Close()
	}
}

func TestServeEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(c *conn.Conn)
		want error
	}{
		{"by Abort", (*conn.Conn).Abort, os.ErrDeadlineExceeded},
		{"by its deadline", func(c *conn.Conn) { c.ReadBy(1) }, os.ErrDeadlineExceeded},
		{"by Close", func(c *conn.Conn) { _ = c.Close() }, net.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := tcp(t)
			c := conn.New(ours, swept(t))
			served, done := make(chan string), make(chan error, 1)
			go func() {
				done <- serving(c, 100, func(p []byte) bool {
					served <- string(p)
					return true
				})
			}()
			if _, err := io.WriteString(theirs, "x"); err != nil {
				t.Fatal(err)
			}
			await(t, "a piece", served)
			tt.end(c)
			if err := await(t, "the end", done); !errors.Is(err, tt.want) {
				t.Errorf("Serve() = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestServeOfAFullBuffer(t *testing.T) {
	t.Parallel()
	ours, theirs := tcp(t)
	c := conn.New(ours, swept(t))
	if _, err := theirs.Write(make([]byte, 100<<10)); err != nil {
		t.Fatal(err)
	}
	var b conn.Buffer
	if err := c.Serve(&b, 20<<10, func() bool { return true }); !errors.Is(err, conn.ErrFull) || b.Len() < 20<<10 || b.Len() > 64<<10 {
		t.Errorf("Serve() = %v with %d bytes, want ErrFull", err, b.Len())
	}
}

// Something that came before it was asked for is not taken for an answer, and then nothing is asked.
func TestAskOfAPeerThatHasSpoken(t *testing.T) {
	t.Parallel()
	for name, speak := range map[string]func(c *net.TCPConn) error{
		"a byte":  func(c *net.TCPConn) error { _, err := c.Write([]byte("x")); return err },
		"its end": (*net.TCPConn).CloseWrite,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := tcp(t)
			c := conn.New(ours, swept(t))
			tcp := theirs.(*net.TCPConn)
			if err := speak(tcp); err != nil {
				t.Fatal(err)
			}
			raw, err := ours.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := raw.Read(func(fd uintptr) bool { // waits until it has come, and leaves it there
				_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
				return !errors.Is(err, syscall.EAGAIN)
			}); err != nil {
				t.Fatal(err)
			}
			var b conn.Buffer
			if n, err := c.Ask([]byte("?"), &b, 100); !errors.Is(err, conn.ErrSpoke) || n > 0 {
				t.Errorf("Ask() = %d, %v, want ErrSpoke", n, err)
			}
		})
	}
}

// What is written within Serve goes to the socket at once; what the socket does not take waits as elsewhere.
func TestWritesWithinServe(t *testing.T) {
	t.Parallel()
	const large = 16 << 20
	for name, transport := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := transport(t)
			_ = theirs.SetDeadline(time.Now().Add(patience))
			c := conn.New(ours, swept(t))
			answer := make([]byte, large)
			count(answer, 1)
			done := make(chan error, 1)
			go func() {
				done <- serving(c, 1<<20, func([]byte) bool {
					n, err := c.Write(answer)
					if n != large || err != nil {
						t.Errorf("%d bytes were written, and %v", n, err)
					}
					c.Abort()
					if n, err := c.Write([]byte("more")); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("after Abort %d bytes were written, and %v", n, err)
					}
					return false
				})
			}()
			if _, err := io.WriteString(theirs, "ask"); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, large)
			if _, err := io.ReadFull(theirs, got); err != nil || string(got) != string(answer) {
				t.Errorf("not what was sent, %v", err)
			}
			if err := await(t, "the end of Serve", done); err != nil {
				t.Error(err)
			}
		})
	}
}
