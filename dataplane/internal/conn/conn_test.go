package conn_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/shared/testkit"
)

// TestFill reads a stream that comes in many pieces up to its end.
func TestFill(t *testing.T) {
	t.Parallel()
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := dial(t)
			c := conn.New(ours, swept(t))
			want := make([]byte, 1<<20)
			count(want, 7)
			go func() {
				for rest, n := want, 1; len(rest) > 0; n = n*3%50000 + 1 {
					size := min(n, len(rest))
					_, _ = theirs.Write(rest[:size])
					rest = rest[size:]
				}
				_ = theirs.Close()
			}()
			var b conn.Buffer
			var got []byte
			for i := 0; ; i++ {
				err := c.Fill(&b, 100<<10)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if i%5 == 0 {
					b.Grow()
				}
				n := b.Len() - i%3*b.Len()/7
				got = append(got, b.Bytes()[:n]...)
				b.Discard(n)
			}
			if got = append(got, b.Bytes()...); !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, want the %d that were sent", len(got), len(want))
			}
		})
	}
}

// TestAsk: what is written is answered, whatever the buffer has been used for before.
func TestAsk(t *testing.T) {
	t.Parallel()
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := dial(t)
			c := conn.New(ours, swept(t))
			go func() { _, _ = io.Copy(theirs, theirs) }()
			var b conn.Buffer
			for round, size := range []int{1, 8 << 10, 1, 3 << 10, 3 << 10, 3 << 10, 1, 64 << 10, 1, 0, 5} {
				p := make([]byte, size)
				count(p, round)
				if size == 0 { // some of an answer is there before
					p = []byte("ab")
				}
				if n, err := c.Ask(p, &b, 1<<20); n != len(p) || err != nil {
					t.Fatalf("Ask() of %d bytes = %d, %v", len(p), n, err)
				}
				for b.Len() < len(p) {
					if err := c.Fill(&b, 1<<20); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(b.Bytes(), p) {
					t.Fatalf("answer of %d bytes is another one", len(p))
				}
				b.Discard(len(p)) // and nothing is released
			}
			b.Release()
			if b.Holds() != 0 {
				t.Errorf("holds %d", b.Holds())
			}
		})
	}
}

// TestAskBeforeTheAnswer: the peer may answer, or go, before all is written.
func TestAskBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := dial(t)
			c := conn.New(ours, swept(t))
			large := make([]byte, 16<<20)
			go func() {
				_, _ = io.CopyN(io.Discard, theirs, int64(len(large)))
				_, _ = theirs.Write([]byte("done"))
				_, _ = io.ReadFull(theirs, make([]byte, 1))
				_ = theirs.Close()
			}()
			var b conn.Buffer
			if n, err := c.Ask(large, &b, 1<<10); n != len(large) || err != nil {
				t.Fatalf("Ask() = %d, %v", n, err)
			}
			for string(b.Bytes()) != "done" {
				if err := c.Fill(&b, 1<<10); err != nil {
					t.Fatal(err)
				}
			}
			b.Discard(b.Len())
			if n, err := c.Ask([]byte("x"), &b, 1<<10); n != 1 || !errors.Is(err, io.EOF) {
				t.Errorf("Ask() of a peer that goes = %d, %v, want io.EOF", n, err)
			}
			for err := error(nil); err == nil; {
				_, err = c.Ask(large, &b, 1<<10)
			}
		})
	}
}

// TestDeadlinesOfSockets: what the sweeper does ends waiting in the kernel, too.
func TestDeadlinesOfSockets(t *testing.T) {
	t.Parallel()
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b conn.Buffer
			large := make([]byte, 64<<20)
			for what, wait := range map[string]func(c *conn.Conn) error{
				"Fill":  func(c *conn.Conn) error { return c.Fill(&b, 1) },
				"Ask":   func(c *conn.Conn) error { _, err := c.Ask([]byte("x"), &b, 1); return err },
				"Write": func(c *conn.Conn) error { _, err := c.Write(large); return err },
			} {
				for _, end := range []func(c *conn.Conn){
					func(c *conn.Conn) { c.ReadBy(time.Millisecond); c.WriteBy(time.Millisecond) },
					func(c *conn.Conn) { go c.Abort() },
				} {
					ours, _ := dial(t)
					c := conn.New(ours, swept(t))
					end(c)
					ended := make(chan error, 1)
					go func() { ended <- wait(c) }()
					if err := await(t, what, ended); !errors.Is(err, os.ErrDeadlineExceeded) || !c.Expired() {
						t.Errorf("%s ends with %v, expired %v", what, err, c.Expired())
					}
				}
			}
		})
	}
}

// TestReset: the peer does not take what it got for all.
func TestReset(t *testing.T) {
	t.Parallel()
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := swept(t)
			ours, theirs := dial(t)
			c := conn.New(ours, s)
			if _, err := c.Write([]byte("part")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(theirs, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if err := c.Reset(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(theirs); err == nil {
				t.Error("the peer sees a clean end")
			}
			if s.Len() != 0 {
				t.Error("the connection is still watched")
			}
		})
	}
}

// TestCloseWrite: the peer sees the end, and can still answer.
func TestCloseWrite(t *testing.T) {
	t.Parallel()
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := dial(t)
			c := conn.New(ours, swept(t))
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(theirs); len(b) > 0 || err != nil {
				t.Errorf("the peer reads %q, %v", b, err)
			}
			if _, err := theirs.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			var b conn.Buffer
			if err := c.Fill(&b, 1); err != nil || b.Len() != 1 {
				t.Errorf("Fill() = %v", err)
			}
		})
	}
	if err := conn.New(&script{}, conn.NewSweeper()).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("CloseWrite() of what cannot = %v", err)
	}
}

// TestWatch: who waits for us is found gone, however the peer goes, and whatever it has said before.
func TestWatch(t *testing.T) {
	t.Parallel()
	goes := map[string]func(peer net.Conn){
		"closes":        func(peer net.Conn) { _ = peer.Close() },
		"breaks":        func(peer net.Conn) { _ = below(peer).SetLinger(0); _ = below(peer).Close() },
		"vanishes":      func(peer net.Conn) { _ = below(peer).Close() },
		"sends no more": func(peer net.Conn) { _ = below(peer).CloseWrite() },
	}
	for name, dial := range transports(t) {
		for how, leave := range goes {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				s := swept(t)
				ours, theirs := dial(t)
				c := conn.New(ours, s)
				request(t, c, theirs)
				gone := make(aborted)
				c.Watch(gone)
				leave(theirs)
				await(t, "Abort", gone)
				if !c.Unwatch() {
					t.Error("Unwatch() = false, want gone")
				}
				if c.Expired() {
					t.Error("the connection itself was aborted")
				}
			})
		}
	}
}

func below(c net.Conn) *net.TCPConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}

// request has the peer say something, which is read.
func request(t *testing.T, c *conn.Conn, peer net.Conn) {
	t.Helper()
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var b conn.Buffer
	if err := c.Fill(&b, 1); err != nil {
		t.Fatal(err)
	}
	b.Discard(b.Len())
	b.Release()
}

// TestWatchLeavesOthersAlone: a peer that is there, or is not watched any more, aborts nothing. That another is found gone
// three times shows that it was looked.
func TestWatchLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := swept(t)
			here, peer := dial(t)
			waiting := conn.New(here, s)
			left, leaver := dial(t)
			unwatched := conn.New(left, s)
			present, forgotten := make(aborted), make(aborted)
			waiting.Watch(present)
			unwatched.Watch(forgotten)
			if unwatched.Unwatch() {
				t.Error("Unwatch() = true before the peer has gone")
			}
			_ = leaver.Close()
			for range 3 {
				ours, theirs := dial(t)
				other, gone := conn.New(ours, s), make(aborted)
				other.Watch(gone)
				_ = theirs.Close()
				await(t, "Abort", gone)
			}
			select {
			case <-present:
				t.Error("aborted although the peer is there")
			case <-forgotten:
				t.Error("aborted although not watched any more")
			default:
			}
			if _, err := peer.Write([]byte("more")); err != nil {
				t.Fatal(err)
			}
			var b conn.Buffer
			for b.Len() < len("more") {
				if err := waiting.Fill(&b, 10); err != nil {
					t.Fatal(err)
				}
			}
			if string(b.Bytes()) != "more" {
				t.Errorf("looking has taken from the stream: %q", b.Bytes())
			}
		})
	}
}

// TestIdleHoldsNothing: while connections wait for their first byte they need no buffers. It is not parallel, for it looks
// at the memory of all.
func TestIdleHoldsNothing(t *testing.T) {
	const connections, smallest = 200, 8 << 10
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			s := swept(t)
			var peers []net.Conn
			buffers := make([]conn.Buffer, connections)
			filled := make(chan error, connections)
			var ours []*conn.Conn
			for range buffers {
				c, peer := dial(t)
				ours, peers = append(ours, conn.New(c, s)), append(peers, peer)
				request(t, ours[len(ours)-1], peer) // what crypto/tls needs, it has now
			}
			before := heap()
			for i := range buffers {
				go func() { filled <- ours[i].Fill(&buffers[i], 1) }()
			}
			testkit.Await(t, patience, func() error {
				if each := (heap() - before) / connections; each > smallest/2 {
					return fmt.Errorf("each holds %d bytes", each)
				}
				return nil
			})
			for i := range peers {
				if _, err := peers[i].Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			for range peers {
				if err := await(t, "Fill", filled); err != nil {
					t.Fatal(err)
				}
			}
			for i := range buffers {
				if buffers[i].Holds() < smallest {
					t.Errorf("holds %d bytes after Fill", buffers[i].Holds())
				}
				buffers[i].Discard(1)
				if buffers[i].Release(); buffers[i].Holds() != 0 {
					t.Errorf("holds %d bytes after Release", buffers[i].Holds())
				}
			}
		})
	}
}

// heap returns how much memory is in use, after two collections: pools keep things over one.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	ours, theirs := tcp(t)
	c := conn.New(ours, conn.NewSweeper())
	if c.NetConn() != ours || c.RemoteAddr().String() != theirs.LocalAddr().String() || c.LocalAddr().String() != theirs.RemoteAddr().String() {
		t.Errorf("%v to %v, want %v to %v", c.LocalAddr(), c.RemoteAddr(), theirs.RemoteAddr(), theirs.LocalAddr())
	}
}

// TestNothingAllocates: all that every request needs does without.
func TestNothingAllocates(t *testing.T) {
	if raceDetector {
		t.Skip("pools drop things at random with the race detector")
	}
	ours, theirs := tcp(t)
	c := conn.New(ours, swept(t))
	go func() {
		var p [64]byte
		for {
			n, err := theirs.Read(p[:])
			if err != nil {
				return
			}
			if _, err := theirs.Write(p[:n]); err != nil {
				return
			}
		}
	}()
	gone := make(aborted)
	var b conn.Buffer
	out := []byte("hello")
	read := func(f func() error) {
		if err := f(); err != nil {
			t.Fatal(err)
		}
		b.Pin()
		b.Discard(b.Len())
		b.Unpin()
		b.Release()
	}
	if n := testing.AllocsPerRun(500, func() {
		c.ReadBy(time.Hour)
		c.WriteBy(time.Hour)
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		c.Watch(gone)
		read(func() error { return c.Fill(&b, 1<<10) })
		read(func() error { _, err := c.Ask(out, &b, 1<<10); return err })
		c.Unwatch()
		c.ReadBy(0)
		c.WriteBy(0)
	}); n != 0 {
		t.Errorf("a round trip allocates %v times", n)
	}
}
