//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package server_test

import (
	"bytes"
	"fmt"
	"net"
	"runtime/debug"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/server"
)

// TestBodiesReadAheadAllocateNothing counts all of the process: client, gateway and upstream, which themselves allocate
// nothing for a request. A connection that has waited for more of a request makes two closures to wait for the next one: as
// without policies.
func TestBodiesReadAheadAllocateNothing(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // collections empty the pools
	small, large := long("a", 1000), long("a", 60_000)
	for _, tt := range []struct {
		name, request, body string
		apart               bool // the body comes after the head
		most                float64
	}{
		{"in one piece", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(small), small), small, false, 0},
		{"after its head", fmt.Sprintf("Content-Length: %d\r\n\r\n", len(small)), small, true, 2},
		{"large", fmt.Sprintf("Content-Length: %d\r\n\r\n", len(large)), large, true, 2},
		{"in chunks", "Transfer-Encoding: chunked\r\n\r\n" + chunks(small, 300, ""), small, false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := startWhole(t, server.Config{Engine: server.Keyward}, "http://"+swallows(t, len(tt.body)), nil)
			g.log.mute.Store(true)
			c, err := net.Dial("tcp", g.address("http"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			head, body, answer := []byte("POST /"+keepAlive+tt.request), []byte(tt.body), make([]byte, 4096)
			once := func() {
				parts := [][]byte{head, body}
				if !tt.apart {
					parts = parts[:1]
				}
				for _, p := range parts {
					if _, err := c.Write(p); err != nil {
						t.Fatal(err)
					}
				}
				n, err := c.Read(answer)
				if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200 ")) {
					t.Fatalf("answered %q, %v", answer[:n], err)
				}
			}
			for range 50 {
				once()
			}
			if n := testing.AllocsPerRun(300, once); n > tt.most {
				t.Errorf("%v allocations a request, want at most %v", n, tt.most)
			}
		})
	}
}

// swallows is an upstream that answers each request with a body of that length, in whatever memory it has.
func swallows(t *testing.T, length int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 256<<10)
				for got := 0; ; {
					n, err := c.Read(buf[got:])
					if err != nil {
						return
					}
					got += n
					if end := bytes.Index(buf[:got], []byte("\r\n\r\n")); end >= 0 && got == end+4+length {
						if _, err := c.Write(answer); err != nil {
							return
						}
						got = 0
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}
