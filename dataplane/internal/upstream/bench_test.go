package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/upstream"
)

// echoless answers every request with the same bytes, without allocating and without parsing: a request ends with end.
func echoless(t testing.TB, end, answer string) string {
	t.Helper()
	return listen(t, func(_ int, c net.Conn) {
		buf, have := make([]byte, 64<<10), 0
		out, tail := []byte(answer), []byte(end)
		for {
			n, err := c.Read(buf[have:])
			if err != nil {
				return
			}
			if have += n; !bytes.HasSuffix(buf[:have], tail) {
				continue
			}
			have = 0
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
}

func benchHeader() exchange.Headers {
	return exchange.Headers{
		field("User-Agent", "bench/1.0"), field("Accept", "*/*"), field("X-Request-Id", "0123456789abcdef"),
		field("X-Forwarded-For", "10.0.0.1"), field("X-Forwarded-Proto", "https"), field("Via", "1.1 keyward"),
	}
}

// once sends a request and reads the answer, as the server does it.
func once(t testing.TB, g *gateway, r *upstream.Request, resp *upstream.Response) (n int) {
	if err := g.Do(context.Background(), r, resp); err != nil {
		t.Fatal(err)
	}
	for {
		piece, err := resp.Next()
		n += len(piece)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
	}
	resp.Trailer()
	if !resp.Sent() || resp.Flush() != (resp.ContentLength < 0) {
		t.Fatal("sent or flush are wrong")
	}
	resp.Close()
	return n
}

func kilobyte() string { return strings.Repeat("x", 1024) }

func BenchmarkDo(b *testing.B) {
	for _, engine := range engines {
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("GET 1 KiB/own=%t/parallel=%t", engine == "", parallel), func(b *testing.B) {
				benchmark(b, start(b, engine), parallel)
			})
		}
	}
	b.Run("GET 1 KiB/http.Transport", func(b *testing.B) {
		address := echoless(b, "\r\n\r\n", ok(kilobyte()))
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			req, err := http.NewRequestWithContext(context.Background(), "GET", "http://"+address+"/a", http.NoBody)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
	})
}

func benchmark(b *testing.B, g *gateway, parallel bool) {
	s := service(echoless(b, "\r\n\r\n", ok(kilobyte())))
	r := get(b, s, "/a")
	r.Header = benchHeader()
	b.ReportAllocs()
	if parallel {
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			var resp upstream.Response
			for pb.Next() {
				once(b, g, r, &resp)
			}
		})
		return
	}
	var resp upstream.Response
	for b.Loop() {
		once(b, g, r, &resp)
	}
}
