package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

func TestTunnel(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(listen(t, func(_ int, c net.Conn) {
			in := bufio.NewReader(c)
			r, _, err := readRequest(in)
			if err != nil {
				return
			}
			if r.Header.Get("Connection") != "Upgrade" {
				fmt.Fprint(c, ok("not asked"))
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\nhello ", r.Header.Get("Upgrade"))
			_, _ = io.Copy(c, in)
		}))
		r := get(t, s, "/")
		r.Upgrade = []byte("websocket")
		var resp upstream.Response
		if err := g.Do(t.Context(), r, &resp); err != nil || resp.Status != 101 {
			t.Fatalf("%d, %v, want 101", resp.Status, err)
		}
		c, behind, ok := resp.Tunnel()
		if !ok {
			t.Fatal("no tunnel")
		}
		fmt.Fprint(c, "world")
		rest := make([]byte, 64)
		for string(behind) != "hello world" {
			n, err := c.Read(rest)
			if err != nil {
				t.Fatalf("%q, %v", behind, err)
			}
			behind = append(behind, rest[:n]...)
		}
		c.Close()
		resp.Close()
		if _, _, ok := resp.Tunnel(); ok {
			t.Error("a tunnel after Close")
		}
	})
}

func TestTunnelThatNobodyTakesIsClosed(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		closed := make(chan bool, 1)
		s := service(listen(t, func(_ int, c net.Conn) {
			in := bufio.NewReader(c)
			_, _, _ = readRequest(in)
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			_, _ = io.Copy(io.Discard, in)
			closed <- true
		}))
		r := get(t, s, "/")
		r.Upgrade = []byte("x")
		var resp upstream.Response
		if err := g.Do(t.Context(), r, &resp); err != nil {
			t.Fatal(err)
		}
		resp.Close()
		select {
		case <-closed:
		case <-time.After(testkit.Deadline):
			t.Error("the connection is still open")
		}
	})
}

func TestOtherProtocolThanAskedIsRefused(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(*http.Request, string) string {
			return "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
		}))
		r := get(t, s, "/")
		r.Upgrade = []byte("websocket")
		if a := g.do(r); a.status != 502 || a.code != "upstream_protocol" {
			t.Errorf("%v, want 502 upstream_protocol", a)
		}
	})
}
