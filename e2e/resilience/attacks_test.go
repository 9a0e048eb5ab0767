package resilience_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
)

// attacks are slowhttptest's modes: unfinished heads, bodies that do not come, ranges without number, answers that nobody reads.
var attacks = map[string][]string{
	"slow heads":  {"-H", "-t", "GET", "-i", "2", "-x", "24"},
	"slow bodies": {"-B", "-t", "POST", "-i", "2", "-s", "8192", "-x", "10"},
	"many ranges": {"-R", "-t", "HEAD", "-a", "10", "-b", "3000"},
	"slow reads":  {"-X", "-t", "GET", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"},
}

// TestSlowClientsLeaveOthersAlone attacks a gateway with hundreds of connections while others use it. They are served as if
// nothing was.
func TestSlowClientsLeaveOthersAlone(t *testing.T) {
	tool, err := exec.LookPath("slowhttptest")
	if err != nil {
		if harness.Full() {
			t.Fatalf("run make setup FULL=1: %v", err)
		}
		t.Skipf("NOT RUN: slowhttptest is not installed; make setup FULL=1 installs it")
	}
	up := bigAndSmall(t)
	c := harness.New(t, harness.Options{})
	for _, engine := range harness.MainEngines() {
		group := strings.ReplaceAll(engine, "/", "-")
		c.CreateGroup(group)
		revision := c.Apply(fmt.Sprintf("group: %s\nsettings: {require_https: false}\nservices: [{name: s, targets: [%q], pool: {idle_timeout: 1s}}]\nroutes: [{name: s, service: s, hosts: [127.0.0.1]}]\n", group, up))
		g := c.StartEdge(t, group, engine, "localhost")
		g.AwaitRevision(revision)
		t.Run(group, func(t *testing.T) {
			before, err := g.Usage()
			if err != nil {
				t.Fatal(err)
			}
			duration, connections := time.Second, 100
			if harness.Full() {
				duration, connections = 30*time.Second, 1000
			}
			calm := others(t, g, duration)
			for name, args := range attacks {
				t.Run(name, func(t *testing.T) { attack(t, g, tool, calm, duration, connections, args) })
			}
			g.AwaitUsage(t, 30*time.Second, before)
		})
	}
}

// others uses the gateway for a while. None of its requests may fail.
func others(t *testing.T, g *harness.Edge, duration time.Duration) load.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	result := load.Run(ctx, load.Config{
		Targets: load.NewTargets(g.HTTP), Rate: 200, Connections: 16, Timeout: 5 * time.Second,
		Request: []byte("GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
	})
	if result.Failed > 0 || result.OK != result.Sent || result.Sent == 0 {
		t.Errorf("%d of %d requests of others failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
	}
	return result
}

// colours are what slowhttptest paints its report with.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// attack runs an attack, and others beside it.
func attack(t *testing.T, g *harness.Edge, tool string, calm load.Result, duration time.Duration, connections int, args []string) {
	t.Helper()
	args = append([]string{
		"-c", strconv.Itoa(connections), "-r", "500", "-l", strconv.Itoa(int(duration.Seconds())), "-p", "3", "-u", "http://" + g.HTTP + "/big",
	}, args...)
	cmd := exec.CommandContext(t.Context(), tool, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	under := others(t, g, duration)
	err := cmd.Wait()
	report := colours.ReplaceAllString(out.String(), "")
	if last := strings.LastIndex(report, "service available:"); last < 0 || !strings.HasPrefix(report[last:], "service available:   YES") ||
		strings.Contains(report, "Connection refused") {
		t.Errorf("slowhttptest %v finds the gateway away: %v\n%.3000s", args, err, report)
	}
	t.Logf("others take %v, 99%% less than %v; before the attack %v and %v", under.P50, under.P99, calm.P50, calm.P99)
	// The attacker uses the same processors, most of all while it connects. What is held is that others do not wait for it:
	// half of them notice nothing, and the rest wait for a processor and not for a timeout.
	if half, rest := max(10*calm.P50, 100*time.Millisecond), 3*time.Second; under.P50 > half || under.P99 > rest {
		t.Errorf("half of the others wait for more than %v, a hundredth for more than %v; want at most %v and %v", under.P50, under.P99, half, rest)
	}
}

// bigAndSmall is an upstream with an answer of 256 KiB, more than a slow reader's socket takes at once, and one of 2 bytes.
func bigAndSmall(t *testing.T) string {
	t.Helper()
	big := strings.Repeat("x", 256<<10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/big" {
			http.ServeContent(w, r, "big.txt", time.Time{}, strings.NewReader(big))
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

const (
	connectionCap = 300
	clientCap     = 100
)

// TestFloodsOfConnectionsHitTheCap opens far more connections than the gateway may have. It closes what is too much, keeps
// serving who was there, and its memory does not grow with them.
func TestFloodsOfConnectionsHitTheCap(t *testing.T) {
	t.Parallel()
	flood := 2000
	if harness.Full() {
		flood = 10_000
	}
	up := bigAndSmall(t)
	c := harness.New(t, harness.Options{})
	for _, engine := range harness.Engines() {
		group := strings.ReplaceAll(engine, "/", "-")
		c.CreateGroup(group)
		revision := c.Apply(fmt.Sprintf(`group: %s
settings: {require_https: false, limits: {connections: %d, connections_per_client: %d}}
services: [{name: s, targets: [%q], pool: {idle_timeout: 1s}}]
routes: [{name: s, service: s, hosts: [localhost]}]
`, group, connectionCap, clientCap, up))
		g := c.StartEdge(t, group, engine, "localhost")
		g.AwaitRevision(revision)
		t.Run(group, func(t *testing.T) {
			before, err := g.Usage()
			if err != nil {
				t.Fatal(err)
			}
			t.Run("of one client", func(t *testing.T) { floodFrom(t, g, g.HTTP, flood, clientCap, "127.0.0.2") })
			t.Run("of many clients", func(t *testing.T) {
				floodFrom(t, g, g.HTTP, flood, connectionCap, "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7")
			})
			t.Run("that never shake hands", func(t *testing.T) { floodFrom(t, g, g.HTTPS, flood, clientCap, "127.0.0.8") })
			g.AwaitUsage(t, 30*time.Second, before)
		})
	}
}

// floodFrom opens n connections from the addresses while somebody else's connection is used.
func floodFrom(t *testing.T, g *harness.Edge, to string, n, most int, from ...string) {
	t.Helper()
	there, err := net.DialTimeout("tcp", g.HTTP, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	memory := g.Resident()
	conns := make([]net.Conn, n)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	for i := range conns {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from[i%len(from)])}, Timeout: 5 * time.Second}
		if conns[i], err = d.DialContext(t.Context(), "tcp", to); err != nil && !refusedByPeer(err) {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if err := ask(there); err != nil {
				t.Fatalf("who was there is not served during the flood: %v", err)
			}
		}
	}
	testkit.Await(t, 10*time.Second, func() error {
		if open := stillOpen(conns); open > most {
			return fmt.Errorf("%d of %d connections are open, the cap is %d", open, n, most)
		}
		return nil
	})
	if err := ask(there); err != nil {
		t.Errorf("who was there is not served after the flood: %v", err)
	}
	// 64 KiB for each connection that may be there are plenty; those beyond the cap cost nothing that lasts.
	if grown, bound := g.Resident()-memory, int64(most)*(64<<10)+(48<<20); grown > bound {
		t.Errorf("the gateway's memory has grown by %d KiB, the bound is %d", grown>>10, bound>>10)
	}
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
	testkit.Await(t, 5*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", g.HTTP, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		return ask(conn)
	})
}

// refusedByPeer says whether a connection could not be made because the other side would not have it.
func refusedByPeer(err error) bool {
	return strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "refused")
}

// ask sends a request on a connection and reads the answer.
func ask(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != "HTTP/1.1 200" {
		return fmt.Errorf("answered %q", answer)
	}
	rest := make([]byte, 64<<10)
	for !strings.HasSuffix(string(answer), "\r\n\r\nok") {
		n, err := conn.Read(rest)
		if err != nil {
			return err
		}
		answer = append(answer, rest[:n]...)
	}
	return nil
}

// stillOpen counts the connections that the other side has not closed.
func stillOpen(conns []net.Conn) int {
	open := 0
	for _, conn := range conns {
		if conn == nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Microsecond))
		var netErr net.Error
		if _, err := conn.Read(make([]byte, 1)); errors.As(err, &netErr) && netErr.Timeout() {
			open++
		}
	}
	return open
}
