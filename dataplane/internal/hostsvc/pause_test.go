package hostsvc_test

import (
	"io"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

// TestRequestsGoBeforeAComputation: with one thread for all, somebody on the network is answered many times sooner if a
// computation takes its pauses than if it only lets other goroutines run.
func TestRequestsGoBeforeAComputation(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ask := echo(t)
	var polite, selfish time.Duration
	for range 3 { // what else the machine does may hide it now and then
		p := hostsvc.NewPause(nil)
		polite = whileComputing(t, p.Take, ask)
		p.Close()
		if selfish = whileComputing(t, runtime.Gosched, ask); polite < selfish/3 {
			return
		}
	}
	t.Errorf("an answer takes %v with pauses, %v without", polite, selfish)
}

// whileComputing returns the median of the times that asking takes meanwhile.
func whileComputing(t *testing.T, pause func(), ask func() error) time.Duration {
	t.Helper()
	var ended atomic.Bool
	done := make(chan int)
	go func() {
		n := 0
		for !ended.Load() {
			for range 100_000 {
				n++
			}
			pause()
		}
		done <- n
	}()
	var took []time.Duration
	for range 21 {
		start := time.Now()
		if err := ask(); err != nil {
			t.Error(err)
		}
		took = append(took, time.Since(start))
	}
	ended.Store(true)
	<-done
	slices.Sort(took)
	return took[len(took)/2]
}

// echo returns what sends a byte over a connection and waits until it is back.
func echo(t *testing.T) func() error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(server, server) }()
	t.Cleanup(func() { client.Close(); server.Close() })
	return func() error {
		if _, err := client.Write([]byte{0}); err != nil {
			return err
		}
		_, err := io.ReadFull(client, make([]byte, 1))
		return err
	}
}

// TestPausesAreRestsUnderPressure: so that requests have the processor, too, where another process has its scheduler decide.
func TestPausesAreRestsUnderPressure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		pressed func() bool
		after   time.Duration // since the last rest
		want    time.Duration
	}{
		{"under pressure", func() bool { return true }, time.Millisecond, time.Millisecond},
		{"under pressure, too soon", func() bool { return true }, time.Millisecond / 5, 0},
		{"nobody waits", func() bool { return false }, time.Millisecond, 0},
		{"nobody can", nil, time.Millisecond, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := hostsvc.NewPause(tt.pressed)
				defer p.Close()
				for range 2 {
					<-time.After(tt.after)
					start := time.Now()
					p.Take()
					if got := time.Since(start); got != tt.want {
						t.Fatalf("a pause of %v, want %v", got, tt.want)
					}
					if tt.want == 0 {
						return
					}
				}
			})
		})
	}
}
