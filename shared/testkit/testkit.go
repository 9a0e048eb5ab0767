// Package testkit holds what tests of several modules need: waiting with a deadline, free ports, a logger that writes to
// the test. Only tests import it. Its sub-package pgserver is used by `keyward dev` too and therefore knows no testing.
package testkit

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// Deadline is how long Await gives slow machines if a test has no reason to choose.
	Deadline = 20 * time.Second

	awaitTick = 5 * time.Millisecond
)

// Await calls condition until it returns nil, and fails the test with its last error if that takes longer than the
// deadline. It is for what goes on in other processes; inside one, use channels or testing/synctest.
func Await(t testing.TB, deadline time.Duration, condition func() error) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	tick := time.NewTicker(awaitTick)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("still not so after %s: %v", deadline, err)
		}
	}
}

// Addr returns a loopback address whose port was free just now. Prefer to listen on port 0 where the process tells which
// port it got; this is for processes that do not.
func Addr(t testing.TB) string {
	t.Helper()
	return Addrs(t, 1)[0]
}

// Addrs returns n different addresses as Addr does: all are held until the last one is found, and given to nobody else before the
// test ends.
func Addrs(t testing.TB, n int) []string {
	t.Helper()
	addrs := make([]string, 0, n)
	for attempts := 0; len(addrs) < n; attempts++ {
		if attempts > 100*n {
			t.Fatalf("no free port in %d attempts", attempts)
		}
		port := drawPort()
		if !claim(t, port) {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// claim keeps a port from other tests, of other processes too, until the test ends: between being given out and being listened
// on it is free for all. Linux forgets the claims of a process that dies; where there is no such thing ports are not claimed.
func claim(t testing.TB, port int) bool {
	t.Helper()
	if runtime.GOOS != "linux" {
		return true
	}
	l, err := net.Listen("unix", "@keyward-test-port-"+strconv.Itoa(port))
	if err == nil {
		t.Cleanup(func() { l.Close() })
	}
	return !errors.Is(err, syscall.EADDRINUSE)
}

// drawPort draws from below the ports that systems give to outgoing connections and to listeners on port 0 (Linux: from
// 32768): a port of those may be taken by the time the process that it is meant for listens.
func drawPort() int {
	const lowest, highest = 10240, 32767
	return lowest + rand.IntN(highest-lowest+1)
}

// Logger returns a logger whose records appear in the test's output, at every level.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
