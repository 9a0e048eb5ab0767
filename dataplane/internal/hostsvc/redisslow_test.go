package hostsvc_test

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/redistest"
)

// slowed is a way to a Redis on which answers take longer, by nanoseconds that may change.
func slowed(t *testing.T, to string) (address string, by *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	by = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			go func() { _, _ = io.Copy(s, c); s.Close() }()
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for {
					n, err := s.Read(b)
					<-time.After(time.Duration(by.Load()))
					if _, werr := c.Write(b[:n]); err != nil || werr != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), by
}

// TestAStoreThatIsSlowIsNotAskedAgainAndAgain answers each time, and each time too late: it is as good as down.
func TestAStoreThatIsSlowIsNotAskedAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	server := at(s)
	address, by := slowed(t, s.Address)
	server.Addresses, server.Timeout = []string{address}, 300*time.Millisecond
	g := gatewayAt(t, server)
	r := g.replays(true)
	wantTake(t, r, "before", hostsvc.ReplayFirst)
	by.Store(int64(400 * time.Millisecond))
	begun := time.Now()
	for i := 0; time.Since(begun) < 3*time.Second; i++ {
		if got, _ := used(r, fmt.Sprint("late ", i)); got != hostsvc.ReplayOutage {
			t.Fatalf("%d is answered %d", i, got)
		}
		<-time.After(time.Millisecond)
	}
	if failed, skipped := g.use().Failed.Load(), g.use().Skipped.Load(); failed != 1 || skipped < 100 {
		t.Errorf("it was asked %d times more and %d times not", failed, skipped)
	}
	by.Store(0)
	awaitUp(t, g, true)
	wantTake(t, r, "after", hostsvc.ReplayFirst)
}

// TestAMomentIsNotAnOutage has one answer come too late.
func TestAMomentIsNotAnOutage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	server := at(s)
	address, by := slowed(t, s.Address)
	server.Addresses, server.Timeout = []string{address}, 500*time.Millisecond
	g := gatewayAt(t, server)
	r := g.replays(true)
	wantTake(t, r, "before", hostsvc.ReplayFirst)
	by.Store(int64(time.Second))
	wantTake(t, r, "late", hostsvc.ReplayOutage)
	by.Store(0)
	testkit.Await(t, testkit.Deadline, func() error {
		if !g.use().DownSince().IsZero() {
			return fmt.Errorf("down since %s", g.use().DownSince())
		}
		return nil
	})
	wantTake(t, r, "late", hostsvc.ReplayFirst)
}
