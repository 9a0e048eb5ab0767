package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
)

// TestASocketIsHandedFromGatewayToGateway sends requests to one address, which the test holds as a service manager does.
// Gateways take turns behind it: two at once, then one, and then, for a moment, none. There is no load balancer that would
// know, and no request may fail.
func TestASocketIsHandedFromGatewayToGateway(t *testing.T) {
	t.Parallel()
	duration, rate := 6*time.Second, 500
	if harness.Full() {
		duration, rate = 30*time.Second, 2000
	}
	c := harness.New(t, harness.Options{})
	revision := c.Apply(fmt.Sprintf(replaceDocument, 10_000, 10, harness.Nginx(t)))
	socket, addr := heldSocket(t)
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()

	first := behind(t, c, socket, revision)
	var result load.Result
	var wg sync.WaitGroup
	wg.Go(func() {
		result = load.Run(ctx, load.Config{
			Targets: load.NewTargets(addr), Rate: rate, Connections: 128, Timeout: 10 * time.Second,
			Request: []byte("GET /load HTTP/1.1\r\nHost: hello.test\r\n\r\n"),
		})
	})
	at(ctx, duration/6)
	second := behind(t, c, socket, revision)
	at(ctx, duration/6)
	end(t, first)
	at(ctx, duration/6)
	end(t, second)
	third := behind(t, c, socket, revision) // requests have waited for it
	wg.Wait()

	t.Logf("%d requests, p99 %v", result.Sent, result.P99)
	if result.Failed > 0 || result.OK != result.Sent {
		t.Errorf("%d of %d requests failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
	}
	if want := int64(rate) * int64(duration.Seconds()) / 2; result.Sent < want {
		t.Errorf("only %d requests were sent, want at least %d", result.Sent, want)
	}
	end(t, third)
}

// heldSocket listens without ever accepting.
func heldSocket(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}

// behind starts a gateway behind the socket, and returns when it has said to the service manager that it is ready.
func behind(t *testing.T, c *harness.Cluster, socket *os.File, revision int64) *harness.Gateway {
	t.Helper()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	g := c.NewGatewayEnv([]string{"KEYWARD_JOIN_TOKEN=" + c.JoinToken("default", 1), "NOTIFY_SOCKET=" + manager.LocalAddr().String()},
		"--listen", "http-held=fd:edge", "--drain-timeout", "10s")
	g.HandOver(socket, "edge")
	g.Start()
	_ = manager.SetReadDeadline(time.Now().Add(testkit.Deadline))
	said := make([]byte, 64)
	n, err := manager.Read(said)
	if err != nil || string(said[:n]) != "READY=1" {
		t.Fatalf("the gateway told the service manager %q, %v", said[:n], err)
	}
	g.AwaitRevision(revision)
	return g
}

// end ends a gateway as a service manager does.
func end(t *testing.T, g *harness.Gateway) {
	t.Helper()
	g.Signal(syscall.SIGTERM)
	g.AwaitEnd(20 * time.Second)
}

// TestAGatewaySaysWhichSocketItMisses starts gateways with sockets that do not fit what they are to listen on.
func TestAGatewaySaysWhichSocketItMisses(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	socket, _ := heldSocket(t)
	for name, tt := range map[string]struct{ handed, listen, want string }{
		"another name":     {"edge", "http-held=fd:front", `no socket \"front\" was handed over; there are edge`},
		"nobody takes it":  {"edge", "http-other=127.0.0.1:0", "sockets edge were handed over and no listener takes them"},
		"nothing is there": {"", "http-held=fd:edge", `no socket \"edge\" was handed over; there are none`},
	} {
		t.Run(name, func(t *testing.T) {
			g := c.NewGateway(c.JoinToken("default", 1), "--listen", tt.listen)
			if tt.handed != "" {
				g.HandOver(socket, tt.handed)
			}
			g.Start()
			g.AwaitOutput(testkit.Deadline, tt.want)
			testkit.Await(t, testkit.Deadline, func() error {
				if g.Running() {
					return errors.New("the gateway runs")
				}
				return nil
			})
		})
	}
}
