//go:build !race

// The race detector makes frames larger.

package server_test

import (
	"runtime"
	"testing"

	"keyward.dev/dataplane/internal/server"
)

// stacks returns what the stacks of all goroutines take, once those at rest have been shrunk.
func stacks() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// A connection at rest must be shallow enough for its stack to be shrunk to 4 KiB after a request: most of what an idle
// connection takes is its stack.
func TestConnectionsAtRestHaveSmallStacks(t *testing.T) {
	const n, most = 400, 4 << 10
	g := start(t, server.Keyward, server.Listener{Name: "http", Address: "127.0.0.1:0"})
	g.simple(echo(t).URL)
	ask := func() *connection {
		c := dial(t, g.address("http"))
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, body := c.answer("GET"); resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
		return c
	}
	ask()
	before := stacks()
	rest := make([]*connection, 0, n)
	for range n {
		rest = append(rest, ask())
	}
	if each := (int64(stacks()) - int64(before)) / n; each > most+most/8 {
		t.Errorf("the stack of a connection at rest takes %d bytes, want %d", each, most)
	}
	runtime.KeepAlive(rest)
}
