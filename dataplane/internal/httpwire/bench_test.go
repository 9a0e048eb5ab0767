package httpwire_test

import (
	"fmt"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// browserHead is a request with ten fields, as browsers and their frameworks send it.
func browserHead() []byte {
	return []byte(wire("GET /v1/transfers/123?page=2&size=50 HTTP/1.1", "Host: api.bank.test",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Accept: application/json",
		"Accept-Language: en-GB,en;q=0.5", "Accept-Encoding: gzip, deflate, br", "X-API-Key: kwk_0123456789012345678901234567890123456789",
		"Referer: https://app.bank.test/accounts/overview", "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Connection: keep-alive"))
}

// nginxHead is what nginx answers with a file.
func nginxHead() []byte {
	return []byte(ok("Server: nginx/1.22.1", "Date: Thu, 01 Jan 2026 12:00:00 GMT", "Content-Type: application/octet-stream",
		"Content-Length: 1024", "Last-Modified: Wed, 31 Dec 2025 23:59:59 GMT", "Connection: keep-alive", `ETag: "6955b9ef-400"`,
		"Accept-Ranges: bytes"))
}

// TestNothingAllocates: all of the path of a message does without, from the second time on.
func TestNothingAllocates(t *testing.T) {
	var h httpwire.Head
	var resp httpwire.ResponseHead
	var c httpwire.Chunks
	request, response := browserHead(), nginxHead()
	ipv6 := []byte(wire("GET http://[2001:db8::ffff:192.0.2.1]:8080/ HTTP/1.1", "Host: [2001:db8::ffff:192.0.2.1]:8080"))
	body := []byte("5;a=b\r\nhello\r\n0\r\nGrpc-Status: 0\r\nX-Sum: abc\r\n\r\n")
	hop := headers("A: 1", "Connection: X-A, keep-alive", "X-A: 1", "B: 2")
	work := make(exchange.Headers, 0, len(hop))
	out := make([]byte, 0, 1<<10)
	parse := func(in []byte) {
		if _, err := httpwire.ParseHead(in, &h, limits); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		f    func()
	}{
		{"HeadEnd", func() { httpwire.HeadEnd(request, 0) }},
		{"ParseHead", func() { parse(request) }},
		{"ParseHead with an IPv6 host", func() { parse(ipv6) }},
		{"ParseHead of half a head", func() { _, _ = httpwire.ParseHead(request[:100], &h, limits) }},
		{"ParseHead of a bad one", func() { _, _ = httpwire.ParseHead(response, &h, limits) }},
		{"ParseResponseHead", func() {
			if _, err := httpwire.ParseResponseHead(response, &resp, limits); err != nil || resp.Framing(h.Method) != httpwire.ByLength {
				t.Fatal(err)
			}
		}},
		{"Chunks", func() {
			c.Reset()
			for n := 0; !c.Done(); {
				_, used, err := c.Next(body[n:])
				if err != nil {
					t.Fatal(err)
				}
				n += used
			}
		}},
		{"DropHopByHop", func() {
			work = append(work[:0], hop...)
			httpwire.DropHopByHop(&work)
		}},
		{"appending", func() {
			b := httpwire.AppendRequestLine(out, request[:3], request[4:10])
			b = httpwire.AppendStatusLine(b, 200)
			b = httpwire.AppendField(b, request[:3], request[4:10])
			b = httpwire.AppendChunk(b, request[:100])
			httpwire.AppendLastChunk(b, hop)
		}},
	}
	for _, tt := range tests {
		if n := testing.AllocsPerRun(100, tt.f); n != 0 {
			t.Errorf("%s allocates %v times", tt.name, n)
		}
	}
}

func BenchmarkHeadEnd(b *testing.B) {
	in := browserHead()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if n, _ := httpwire.HeadEnd(in, 0); n != len(in) {
			b.Fatal(n)
		}
	}
}

func BenchmarkParseHead(b *testing.B) {
	in := browserHead()
	var h httpwire.Head
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := httpwire.ParseHead(in, &h, limits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseResponseHead(b *testing.B) {
	in := nginxHead()
	var h httpwire.ResponseHead
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := httpwire.ParseResponseHead(in, &h, limits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDropHopByHop(b *testing.B) {
	var h httpwire.Head
	if _, err := httpwire.ParseHead(browserHead(), &h, limits); err != nil {
		b.Fatal(err)
	}
	work := make(exchange.Headers, 0, len(h.Fields))
	b.ReportAllocs()
	for b.Loop() {
		work = append(work[:0], h.Fields...)
		httpwire.DropHopByHop(&work)
	}
}

func BenchmarkChunks(b *testing.B) {
	for _, size := range []int{16, 1 << 10, 32 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			in := []byte(strings.Repeat(chunk(size, 0), max(1, 32<<10/size)) + "0\r\n\r\n")
			var c httpwire.Chunks
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				c.Reset()
				for n := 0; !c.Done(); {
					_, used, err := c.Next(in[n:])
					if err != nil {
						b.Fatal(err)
					}
					n += used
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	var h httpwire.Head
	if _, err := httpwire.ParseHead(browserHead(), &h, limits); err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		o := httpwire.AppendRequestLine(out, h.Method, h.Target)
		for i := range h.Fields {
			o = httpwire.AppendField(o, h.Fields[i].Name, h.Fields[i].Value)
		}
	}
}
