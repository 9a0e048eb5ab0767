package conn_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/dataplane/internal/conn"
)

// bubble runs f in a bubble with its own time, with both ends of a connection that a sweeper watches.
func bubble(t *testing.T, f func(t *testing.T, ours *conn.Conn, theirs net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := conn.NewSweeper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = s.Run(ctx) }()
		ours, theirs := net.Pipe()
		c := conn.New(ours, s)
		defer c.Close()
		f(t, c, theirs)
	})
}

func pass(d time.Duration) { <-time.After(d) }

// TestDeadlines: they end what waits, never early, and late by at most twice the resolution, whenever they are set.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{time.Nanosecond, conn.Resolution / 2, conn.Resolution, 1234 * time.Millisecond, time.Hour} {
		for offset := time.Duration(0); offset <= 2*conn.Resolution; offset += conn.Resolution/5 + 1 {
			t.Run(fmt.Sprint(d, " at ", offset), func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, c *conn.Conn, _ net.Conn) {
					pass(offset)
					var b conn.Buffer
					expires(t, d, func() error { return c.Fill(&b, 1) }, c.ReadBy)
					if !c.Expired() || c.ReadBy(0) || c.ReadBy(time.Hour) {
						t.Error("the connection can be read again")
					}
					expires(t, d, func() error { _, err := c.Write([]byte("x")); return err }, c.WriteBy)
					if c.WriteBy(0) {
						t.Error("the connection can be written again")
					}
				})
			})
		}
	}
}

// expires demands that f, which waits, ends in time.
func expires(t *testing.T, d time.Duration, f func() error, by func(time.Duration) bool) {
	t.Helper()
	start := time.Now()
	if !by(d) {
		t.Fatal("the deadline cannot be set")
	}
	err := f()
	if took := time.Since(start); took < d || took > d+2*conn.Resolution || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after %v: %v, want os.ErrDeadlineExceeded after %v", took, err, d)
	}
}

// TestDeadlineOfOneDirection leaves the other as it is.
func TestDeadlineOfOneDirection(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, c *conn.Conn, peer net.Conn) {
		go func() {
			pass(time.Minute)
			_, _ = peer.Read(make([]byte, 1))
			_, _ = peer.Write([]byte("x"))
		}()
		c.ReadBy(time.Hour)
		if !c.WriteBy(time.Hour) {
			t.Fatal("the deadline cannot be set")
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("Write() = %v", err)
		}
		c.WriteBy(time.Second)
		pass(time.Minute)
		var b conn.Buffer
		if err := c.Fill(&b, 1); err != nil || !c.ReadBy(0) || c.WriteBy(0) {
			t.Errorf("after the deadline for writing: Fill() = %v", err)
		}
	})
}

// TestDeadlineIsReplaced: what was taken back or put off does not fire.
func TestDeadlineIsReplaced(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, c *conn.Conn, peer net.Conn) {
		for range 50 {
			if !c.ReadBy(time.Second) || !c.WriteBy(time.Second) {
				t.Fatal("a deadline has fired that was put off")
			}
			pass(900 * time.Millisecond)
		}
		c.ReadBy(0)
		c.WriteBy(0)
		go func() {
			pass(time.Hour)
			_, _ = peer.Write([]byte("x"))
		}()
		var b conn.Buffer
		if err := c.Fill(&b, 1); err != nil || c.Expired() {
			t.Errorf("Fill() = %v, expired %v: a deadline has fired that was taken back", err, c.Expired())
		}
	})
}

// TestAbort ends what waits at once, and all that comes later.
func TestAbort(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, c *conn.Conn, _ net.Conn) {
		ended := make(chan error, 2)
		go func() {
			var b conn.Buffer
			ended <- c.Fill(&b, 1)
		}()
		go func() {
			_, err := c.Write([]byte("x"))
			ended <- err
		}()
		synctest.Wait()
		start := time.Now()
		c.Abort()
		for range 2 {
			if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 0 {
				t.Errorf("aborted after %v: %v", time.Since(start), err)
			}
		}
		if !c.Expired() || c.ReadBy(time.Second) || c.WriteBy(0) {
			t.Error("the connection is good for more")
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write() after Abort = %v", err)
		}
	})
}

// TestSweeperForgets: closed connections are not watched, in whatever order they come and go.
func TestSweeperForgets(t *testing.T) {
	t.Parallel()
	s := conn.NewSweeper()
	for _, step := range []int{1, 3, 7} {
		var all []*conn.Conn
		for range 100 {
			all = append(all, conn.New(&script{}, s))
		}
		for i := range all {
			if s.Len() != 100-i {
				t.Fatalf("Len() = %d, want %d", s.Len(), 100-i)
			}
			c := all[i*step%100]
			_ = c.Close()
			_ = c.Close()
			c.ReadBy(time.Nanosecond)
			s.Sweep()
		}
		if s.Len() != 0 {
			t.Fatalf("Len() = %d at the end", s.Len())
		}
	}
}

// TestSweeperInUse is for the race detector: connections come, go, wait and are given up while they are looked at.
func TestSweeperInUse(t *testing.T) {
	t.Parallel()
	s := conn.NewSweeper()
	stop := make(chan struct{})
	var sweeping, using sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.Sweep()
			}
		}
	})
	for range 8 {
		using.Go(func() {
			for range 100 {
				a, b := net.Pipe()
				c, d := conn.New(a, s), conn.New(b, s)
				exchangeOnce(t, c, d)
				_ = c.Close()
				_ = d.Reset()
			}
		})
	}
	using.Wait()
	close(stop)
	sweeping.Wait()
	if s.Len() != 0 {
		t.Errorf("Len() = %d at the end", s.Len())
	}
}

func exchangeOnce(t *testing.T, c, d *conn.Conn) {
	t.Helper()
	gone := make(aborted)
	c.ReadBy(time.Hour)
	c.WriteBy(time.Nanosecond)
	d.Watch(gone)
	var got conn.Buffer
	done := make(chan error, 1)
	go func() { done <- d.Fill(&got, 1) }()
	_, _ = c.Write([]byte("x")) // may be too late
	c.Abort()
	_ = c.Close()
	if err := await(t, "Fill", done); err == nil {
		got.Discard(1)
		got.Release()
	}
	if d.Unwatch() {
		t.Error("a pipe is never known to be gone")
	}
}
