package httpwire_test

import (
	"errors"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/httpwire"
)

var limits = httpwire.Limits{Head: 8 << 10, Target: 1 << 10, Fields: 20}

// wire turns the lines of a head into bytes.
func wire(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

func TestParseHead(t *testing.T) {
	t.Parallel()
	in := wire("POST /a%20b?q=1&r HTTP/1.1", "Host: Example.test:8080", "content-length:  12\t", "X-Empty:", "Accept: a, b", "Connection: x, Close")
	var h httpwire.Head
	n, err := httpwire.ParseHead([]byte(in+"body"), &h, limits)
	if err != nil || n != len(in) {
		t.Fatalf("ParseHead() = %d, %v, want %d", n, err, len(in))
	}
	if string(h.Method) != "POST" || string(h.Target) != "/a%20b?q=1&r" || string(h.Path) != "/a%20b" || string(h.Query) != "q=1&r" ||
		string(h.Host) != "Example.test:8080" || h.Minor != 1 || h.ContentLength != 12 || h.Chunked || !h.Close || len(h.Fields) != 5 {
		t.Errorf("head = %+v", h)
	}
	if got := string(h.Fields.Get("Content-Length")); got != "12" {
		t.Errorf("Content-Length = %q, want 12 without white space", got)
	}
	if v := h.Fields.Get("X-Empty"); v == nil || len(v) != 0 {
		t.Errorf("X-Empty = %q, want empty and present", v)
	}
}

func TestParseHeadAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		check    func(h *httpwire.Head) bool
	}{
		{"no body", wire("GET / HTTP/1.1", "Host: a"), func(h *httpwire.Head) bool { return h.ContentLength == 0 && !h.Close && h.Query == nil }},
		{"empty query", wire("GET /? HTTP/1.1", "Host: a"), func(h *httpwire.Head) bool { return h.Query != nil && len(h.Query) == 0 }},
		{"chunked", wire("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked"), func(h *httpwire.Head) bool { return h.Chunked && h.ContentLength == -1 }},
		{"HTTP/1.0", wire("GET / HTTP/1.0"), func(h *httpwire.Head) bool { return h.Close && h.Minor == 0 && h.Host == nil }},
		{"HTTP/1.0 kept alive", wire("GET / HTTP/1.0", "Connection: Keep-Alive"), func(h *httpwire.Head) bool { return !h.Close }},
		{"absolute form", wire("GET HTTP://A.test:80/p?q HTTP/1.1", "Host: a.TEST:80"), func(h *httpwire.Head) bool {
			return h.Scheme == "http" && string(h.Host) == "A.test:80" && string(h.Path) == "/p" && string(h.Query) == "q"
		}},
		{"absolute form without path", wire("GET https://a?q HTTP/1.1", "Host: a"), func(h *httpwire.Head) bool {
			return h.Scheme == "https" && len(h.Path) == 0 && string(h.Query) == "q"
		}},
		{"asterisk form", wire("OPTIONS * HTTP/1.1", "Host: a"), func(h *httpwire.Head) bool { return string(h.Path) == "*" }},
		{"authority form", wire("CONNECT a.test:443 HTTP/1.1", "Host: a.test:443"), func(h *httpwire.Head) bool { return h.Path == nil && string(h.Host) == "a.test:443" }},
		{"IPv6 host", wire("GET / HTTP/1.1", "Host: [2001:db8::1]:8080"), func(h *httpwire.Head) bool { return string(h.Host) == "[2001:db8::1]:8080" }},
		{"expect", wire("PUT / HTTP/1.1", "Host: a", "Expect: 100-Continue", "Content-Length: 1"), func(h *httpwire.Head) bool { return h.ExpectContinue }},
		{"upgrade", wire("GET / HTTP/1.1", "Host: a", "Upgrade: websocket"), func(h *httpwire.Head) bool { return h.Upgrade }},
		{"obs-text in a value", wire("GET / HTTP/1.1", "Host: a", "X: caf\xe9"), func(h *httpwire.Head) bool { return len(h.Fields) == 2 }},
		{"largest length", wire("GET / HTTP/1.1", "Host: a", "Content-Length: 9223372036854775807"), func(h *httpwire.Head) bool { return h.ContentLength == 1<<63-1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var h httpwire.Head
			if n, err := httpwire.ParseHead([]byte(tt.in), &h, limits); err != nil || n != len(tt.in) {
				t.Fatalf("ParseHead(%q) = %d, %v", tt.in, n, err)
			}
			if !tt.check(&h) {
				t.Errorf("ParseHead(%q) = %+v", tt.in, h)
			}
		})
	}
}

func TestParseHeadRefuses(t *testing.T) {
	t.Parallel()
	get := func(fields ...string) string {
		return wire(append([]string{"GET / HTTP/1.1", "Host: a"}, fields...)...)
	}
	tests := []struct {
		name, in string
		want     *httpwire.Error
	}{
		{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", httpwire.ErrLineEnd},
		{"bare LF in the fields", "GET / HTTP/1.1\r\nHost: a\n\r\n", httpwire.ErrLineEnd},
		{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", httpwire.ErrLineEnd},
		{"bare CR in a value", get("X: a\rb"), httpwire.ErrFieldValue},
		{"bare CR in the request line", wire("GET /\r HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"CR before CRLF", get("X: a\r"), httpwire.ErrFieldValue},
		{"NUL in a value", get("X: a\x00b"), httpwire.ErrFieldValue},
		{"DEL in a value", get("X: a\x7f"), httpwire.ErrFieldValue},
		{"empty line first", "\r\n" + get(), httpwire.ErrRequestLine},
		{"obs-fold", get("X: a", " b"), httpwire.ErrFieldFold},
		{"obs-fold with a tab", get("X: a", "\tb"), httpwire.ErrFieldFold},
		{"space before the first field", wire("GET / HTTP/1.1", " Host: a"), httpwire.ErrFieldFold},
		{"space before colon", get("X : a"), httpwire.ErrFieldName},
		{"tab before colon", get("X\t: a"), httpwire.ErrFieldName},
		{"no colon", get("X"), httpwire.ErrFieldName},
		{"empty name", get(": a"), httpwire.ErrFieldName},
		{"name is no token", get("X(y): a"), httpwire.ErrFieldName},
		{"name beyond ASCII", get("X\xe9: a"), httpwire.ErrFieldName},
		{"no method", wire(" / HTTP/1.1", "Host: a"), httpwire.ErrRequestLine},
		{"method is no token", wire("G(T / HTTP/1.1", "Host: a"), httpwire.ErrMethod},
		{"method too long", wire(strings.Repeat("A", 33)+" / HTTP/1.1", "Host: a"), httpwire.ErrMethod},
		{"no target", wire("GET  HTTP/1.1", "Host: a"), httpwire.ErrRequestLine},
		{"no version", wire("GET /", "Host: a"), httpwire.ErrRequestLine},
		{"two spaces", wire("GET /  HTTP/1.1", "Host: a"), httpwire.ErrRequestLine},
		{"space in the target", wire("GET /a b HTTP/1.1", "Host: a"), httpwire.ErrRequestLine},
		{"tab as separator", wire("GET\t/\tHTTP/1.1", "Host: a"), httpwire.ErrRequestLine},
		{"trailing space", wire("GET / HTTP/1.1 ", "Host: a"), httpwire.ErrRequestLine},
		{"lower-case version", wire("GET / http/1.1", "Host: a"), httpwire.ErrRequestLine},
		{"HTTP/1.2", wire("GET / HTTP/1.2", "Host: a"), httpwire.ErrVersion},
		{"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", httpwire.ErrVersion},
		{"HTTP/0.9", wire("GET / HTTP/0.9", "Host: a"), httpwire.ErrVersion},
		{"relative target", wire("GET a HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"fragment", wire("GET /a#b HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"non-ASCII target", wire("GET /\xe9 HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"broken escape", wire("GET /%4 HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"broken escape in the middle", wire("GET /%4g/%41 HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"asterisk for GET", wire("GET * HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"CONNECT with a path", wire("CONNECT /a HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"CONNECT without a port", wire("CONNECT a HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"user information", wire("GET http://u@a/ HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"other scheme", wire("GET ftp://a/ HTTP/1.1", "Host: a"), httpwire.ErrTarget},
		{"absolute form disagrees with Host", wire("GET http://a/ HTTP/1.1", "Host: b"), httpwire.ErrHostMismatch},
		{"no Host", wire("GET / HTTP/1.1"), httpwire.ErrHost},
		{"two Hosts", get("Host: a"), httpwire.ErrHost},
		{"two Hosts in other cases", get("HOST: b"), httpwire.ErrHost},
		{"empty Host", wire("GET / HTTP/1.1", "Host:"), httpwire.ErrHost},
		{"listed Host", wire("GET / HTTP/1.1", "Host: a, b"), httpwire.ErrHost},
		{"Host with a path", wire("GET / HTTP/1.1", "Host: a/b"), httpwire.ErrHost},
		{"Host with user", wire("GET / HTTP/1.1", "Host: u@a"), httpwire.ErrHost},
		{"Host with a bad port", wire("GET / HTTP/1.1", "Host: a:65536"), httpwire.ErrHost},
		{"Host with a zone", wire("GET / HTTP/1.1", "Host: [fe80::1%25eth0]"), httpwire.ErrHost},
		{"Host with IPv4 in brackets", wire("GET / HTTP/1.1", "Host: [1.2.3.4]"), httpwire.ErrHost},
		{"length and coding", get("Content-Length: 3", "Transfer-Encoding: chunked"), httpwire.ErrLengthTwice},
		{"coding and length", get("Transfer-Encoding: chunked", "Content-Length: 0"), httpwire.ErrLengthTwice},
		{"equal lengths", get("Content-Length: 3", "Content-Length: 3"), httpwire.ErrContentLength},
		{"listed lengths", get("Content-Length: 3, 3"), httpwire.ErrContentLength},
		{"signed length", get("Content-Length: +3"), httpwire.ErrContentLength},
		{"negative length", get("Content-Length: -3"), httpwire.ErrContentLength},
		{"hexadecimal length", get("Content-Length: 0x3"), httpwire.ErrContentLength},
		{"empty length", get("Content-Length:"), httpwire.ErrContentLength},
		{"length too large", get("Content-Length: 9223372036854775808"), httpwire.ErrContentLength},
		{"length far too large", get("Content-Length: 99999999999999999999999"), httpwire.ErrContentLength},
		{"gzip, chunked", get("Transfer-Encoding: gzip, chunked"), httpwire.ErrTransferCoding},
		{"identity", get("Transfer-Encoding: identity"), httpwire.ErrTransferCoding},
		{"coding twice", get("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), httpwire.ErrTransferCoding},
		{"vertical tab in the coding", get("Transfer-Encoding: \vchunked"), httpwire.ErrFieldValue},
		{"coding in HTTP/1.0", wire("GET / HTTP/1.0", "Transfer-Encoding: chunked"), httpwire.ErrEncodingOld},
		{"trailer of framing", get("Transfer-Encoding: chunked", "Trailer: X, Content-Length"), httpwire.ErrTrailerName},
		{"unknown expectation", get("Expect: 200-ok"), httpwire.ErrExpectation},
		{"long target", wire("GET /"+strings.Repeat("a", 1<<10)+" HTTP/1.1", "Host: a"), httpwire.ErrTargetLong},
		{"long target without end", "GET /" + strings.Repeat("a", 2<<10), httpwire.ErrTargetLong},
		{"long head", get("X: " + strings.Repeat("a", 8<<10)), httpwire.ErrHeadLong},
		{"long head without end", strings.TrimSuffix(get("X: "+strings.Repeat("a", 9<<10)), "\r\n\r\n"), httpwire.ErrHeadLong},
		{"many fields", get(strings.Split(strings.TrimSuffix(strings.Repeat("X: a\n", 20), "\n"), "\n")...), httpwire.ErrManyFields},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var h httpwire.Head
			n, err := httpwire.ParseHead([]byte(tt.in), &h, limits)
			if !errors.Is(err, tt.want) {
				t.Errorf("ParseHead(%.80q) = %d, %v, want %v", tt.in, n, err, tt.want)
			}
		})
	}
}

func TestParseHeadAsksForMoreUntilTheHeadEnds(t *testing.T) {
	t.Parallel()
	in := wire("GET /a HTTP/1.1", "Host: a", "X: y")
	var h httpwire.Head
	for i := range len(in) {
		if _, err := httpwire.ParseHead([]byte(in[:i]), &h, limits); !errors.Is(err, httpwire.ErrIncomplete) {
			t.Fatalf("ParseHead(%q) = %v, want ErrIncomplete", in[:i], err)
		}
	}
}

func TestParseHeadDoesNotAllocate(t *testing.T) {
	in := browserHead()
	var h httpwire.Head
	if n := testing.AllocsPerRun(200, func() {
		if _, err := httpwire.ParseHead(in, &h, limits); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("ParseHead() allocates %v times", n)
	}
}

func browserHead() []byte {
	return []byte(wire("GET /v1/transfers/123?page=2&size=50 HTTP/1.1", "Host: api.bank.test",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Accept: application/json",
		"Accept-Encoding: gzip, deflate, br", "X-API-Key: kwk_0123456789012345678901234567890123456789", "Connection: keep-alive"))
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
