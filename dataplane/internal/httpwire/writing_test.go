package httpwire_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// headers makes fields of "Name: value" lines.
func headers(lines ...string) exchange.Headers {
	var hs exchange.Headers
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		hs.Add(exchange.Header{Name: []byte(name), Value: []byte(value)})
	}
	return hs
}

func lines(hs exchange.Headers) []string {
	var out []string
	for _, f := range hs {
		out = append(out, fmt.Sprintf("%s: %s", f.Name, f.Value))
	}
	return out
}

func TestAppend(t *testing.T) {
	t.Parallel()
	b := []byte("before ")
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"request line, RFC 9112 3", httpwire.AppendRequestLine(b, []byte("GET"), []byte("/a?b")), "GET /a?b HTTP/1.1\r\n"},
		{"status line, RFC 9112 4", httpwire.AppendStatusLine(b, 200), "HTTP/1.1 200 OK\r\n"},
		{"status line without a reason", httpwire.AppendStatusLine(b, 299), "HTTP/1.1 299 \r\n"},
		{"status line between known codes", httpwire.AppendStatusLine(b, 306), "HTTP/1.1 306 \r\n"},
		{"status line of the last known code", httpwire.AppendStatusLine(b, 511), "HTTP/1.1 511 Network Authentication Required\r\n"},
		{"status line beyond", httpwire.AppendStatusLine(b, 512), "HTTP/1.1 512 \r\n"},
		{"status line of the largest code", httpwire.AppendStatusLine(b, 999), "HTTP/1.1 999 \r\n"},
		{"field, RFC 9112 5", httpwire.AppendField(b, []byte("X-A"), []byte("b c")), "X-A: b c\r\n"},
		{"field without a value", httpwire.AppendField(b, []byte("X"), nil), "X: \r\n"},
		{"chunk, RFC 9112 7.1", httpwire.AppendChunk(b, []byte("hello")), "5\r\nhello\r\n"},
		{"larger chunk", httpwire.AppendChunk(b, make([]byte, 0x1f0)), "1f0\r\n" + string(make([]byte, 0x1f0)) + "\r\n"},
		{"chunk of nothing does not end the body", httpwire.AppendChunk(b, nil), ""},
		{"size of one digit", httpwire.AppendChunkSize(b, 15), "f\r\n"},
		{"size of two digits", httpwire.AppendChunkSize(b, 16), "10\r\n"},
		{"largest size", httpwire.AppendChunkSize(b, 1<<60-1), "fffffffffffffff\r\n"},
		{"last chunk", httpwire.AppendLastChunk(b, nil), "0\r\n\r\n"},
		{"last chunk with a trailer, RFC 9112 7.1.2", httpwire.AppendLastChunk(b, headers("A: b", "C: d")), "0\r\nA: b\r\nC: d\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := string(tt.got); got != "before "+tt.want {
				t.Errorf("appended %q, want %q", got, tt.want)
			}
		})
	}
}

// TestReasons holds the reason phrases against net/http's, which knows a few by older names.
func TestReasons(t *testing.T) {
	t.Parallel()
	renamed := map[int]string{413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 418: "", 422: "Unprocessable Content"}
	for code := range 600 {
		want, ok := renamed[code]
		if !ok {
			want = http.StatusText(code)
		}
		if got, want := string(httpwire.AppendStatusLine(nil, code)), fmt.Sprintf("HTTP/1.1 %03d %s\r\n", code, want); got != want {
			t.Errorf("AppendStatusLine(%d) = %q, want %q", code, got, want)
		}
	}
}

// TestDropHopByHop is the part of RFC 9110 section 7.6.1 that is not about framing.
func TestDropHopByHop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		in, want []string
	}{
		{"nothing to drop", []string{"A: 1", "B: 2"}, []string{"A: 1", "B: 2"}},
		{"an announcement of trailers stays", []string{"Trailer: X", "TE: trailers"}, []string{"Trailer: X"}},
		{"no fields", nil, nil},
		{
			"the known ones",
			[]string{
				"A: 1", "Connection: close", "keep-alive: x", "TE: trailers", "Upgrade: h2c", "HTTP2-Settings: x",
				"Proxy-Connection: x", "TRANSFER-ENCODING: chunked", "Proxy-Authenticate: x", "Proxy-Authorization: x", "B: 2",
			},
			[]string{"A: 1", "B: 2"},
		},
		{
			"names of the same lengths stay",
			[]string{
				"XE: 1", "Upgradf: 1", "Trailor: 1", "Connectiom: 1", "Keep-Alivf: 1", "HTTP2-Settingz: 1", "Proxy-Connectiom: 1",
				"Transfer-Encodinh: 1", "Proxy-Authenticatf: 1", "Proxy-Authorizatiom: 1",
			},
			[]string{
				"XE: 1", "Upgradf: 1", "Trailor: 1", "Connectiom: 1", "Keep-Alivf: 1", "HTTP2-Settingz: 1", "Proxy-Connectiom: 1",
				"Transfer-Encodinh: 1", "Proxy-Authenticatf: 1", "Proxy-Authorizatiom: 1",
			},
		},
		{"a named field", []string{"X-A: 1", "Connection: x-a", "X-B: 2"}, []string{"X-B: 2"}},
		{"a named field that comes before and after", []string{"X-A: 1", "Connection: X-A", "x-a: 2"}, nil},
		{"several names", []string{"Connection: close,\tX-A , ,X-B", "X-A: 1", "X-B: 2", "X-C: 3"}, []string{"X-C: 3"}},
		{"several Connection fields", []string{"Connection: X-A", "X-A: 1", "X-B: 2", "CONNECTION: X-B", "X-C: 3"}, []string{"X-C: 3"}},
		{"names differ in case", []string{"Connection: xa, xz, XM", "XA: 1", "XZ: 2", "xm: 3"}, nil},
		{
			"names differ in more than case",
			[]string{"Connection: X@, X[, X^, X8, X-A", "X`: 1", "X{: 2", "X~: 3", "X\x18: 4", "X-: 5", "X-AA: 6"},
			[]string{"X`: 1", "X{: 2", "X~: 3", "X\x18: 4", "X-: 5", "X-AA: 6"},
		},
		{"Connection names itself", []string{"Connection: Connection", "Connection: X-A", "X-A: 1"}, nil},
		{"only Connection names fields", []string{"A: X-B", "X-B: 1"}, []string{"A: X-B", "X-B: 1"}},
		{
			"what makes the message stays whatever Connection says",
			[]string{"Connection: host, content-length, FORWARDED, x-real-ip, x-forwarded-for", "Host: a", "Content-Length: 1", "Forwarded: x", "X-Real-IP: y", "X-Forwarded-For: z"},
			[]string{"Host: a", "Content-Length: 1", "Forwarded: x", "X-Real-IP: y", "X-Forwarded-For: z"},
		},
		{
			"names of the same lengths go",
			[]string{"Connection: hosd, content-lengtg, forwardec, x-real-io, x-forwarded", "Hosd: a", "Content-Lengtg: 1", "Forwardec: x", "X-Real-IO: y", "X-Forwarded: z"},
			nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hs := headers(tt.in...)
			all := hs
			httpwire.DropHopByHop(&hs)
			if diff := cmp.Diff(tt.want, lines(hs)); diff != "" {
				t.Errorf("DropHopByHop(%q): -want +got\n%s", tt.in, diff)
			}
			for _, f := range all[len(hs):] {
				if f.Name != nil || f.Value != nil {
					t.Errorf("%s can still be reached", f.Name)
				}
			}
		})
	}
}
