package httpwire_test

import (
	"errors"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// everyByte calls f with all bytes and whether they are among those allowed.
func everyByte(allowed string, f func(c string, ok bool)) {
	for c := range 256 {
		s := string([]byte{byte(c)})
		f(s, strings.Contains(allowed, s))
	}
}

// between are all bytes from first to last.
func between(first, last int) string {
	var b []byte
	for c := first; c <= last; c++ {
		b = append(b, byte(c))
	}
	return string(b)
}

// TestEveryByte tries all 256 bytes in the places whose grammar is a set of characters.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	const (
		alnum = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		token = alnum + "!#$%&'*+-.^_`|~" // RFC 9110 section 5.6.2
	)
	value := "\t" + between(0x20, 0x7e) + between(0x80, 0xff) // RFC 9110 section 5.5
	target := strings.ReplaceAll(between(0x21, 0x7e), "#", "")
	tests := []struct {
		name, before, after, allowed string
		read                         func(string) (string, error)
	}{
		{"method", "G", "T / HTTP/1.1\r\nHost: a\r\n\r\n", token, readRequest},
		{"path", "GET /a", "41 HTTP/1.1\r\nHost: a\r\n\r\n", target, readRequest},
		{"query", "GET /?", " HTTP/1.1\r\nHost: a\r\n\r\n", target, readRequest},
		{"first digit of an escape", "GET /%", "0 HTTP/1.1\r\nHost: a\r\n\r\n", "0123456789ABCDEFabcdef", readRequest},
		{"last digit of an escape", "GET /%0", " HTTP/1.1\r\nHost: a\r\n\r\n", "0123456789ABCDEFabcdef", readRequest},
		{"host", "GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n", alnum + "-_.", readRequest},
		{"port", "GET / HTTP/1.1\r\nHost: a:1", "0\r\n\r\n", "0123456789", readRequest},
		{"IPv6 address", "GET / HTTP/1.1\r\nHost: [1::", "]\r\n\r\n", "0123456789ABCDEFabcdef", readRequest},
		{"field name", get("X")[:len(get("X"))-4], "Y: a\r\n\r\n", token + ":", readRequest},
		{"field value", "GET / HTTP/1.1\r\nHost: a\r\nX: a", "b\r\n\r\n", value, readRequest},
		{"long field value", "GET / HTTP/1.1\r\nHost: a\r\nX: 0123456789", "0123456789\r\n\r\n", value, readRequest},
		{"Content-Length", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1", "2\r\n\r\n", "0123456789", readRequest},
		{"reason", "HTTP/1.1 200 a", "b\r\n\r\n", value, readResponse},
		{"status", "HTTP/1.1 2", "0 OK\r\n\r\n", "0123456789", readResponse},
		{"chunk extension", "0;a", "b\r\n\r\n", "\t" + between(0x20, 0x7e), readChunked},
		{"trailer value", "0\r\nX: a", "b\r\n\r\n", value, readChunked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			everyByte(tt.allowed, func(c string, ok bool) {
				_, err := tt.read(tt.before + c + tt.after)
				if _, refused := errors.AsType[*httpwire.Error](err); refused == ok || (err == nil) != ok {
					t.Errorf("%q: %v, want accepted: %v", tt.before+c+tt.after, err, ok)
				}
			})
		})
	}
}

// TestEveryChunkSize does so for the digits of a chunk's size, which also have a value.
func TestEveryChunkSize(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		digit := string([]byte{byte(c)})
		size := strings.Index("0123456789abcdef", strings.ToLower(digit))
		got, err := readChunked("1" + digit + "\r\n" + strings.Repeat("x", 16+max(size, 0)) + "\r\n0\r\n\r\n")
		if size >= 0 && (err != nil || len(got) != 16+size) || size < 0 && digit != ";" && !errors.Is(err, httpwire.ErrChunk) && !errors.Is(err, httpwire.ErrLineEnd) {
			t.Errorf("size 1%q: %q, %v", digit, got, err)
		}
	}
}

// TestValuesOfEveryLength puts a control character at every place of values of all lengths.
func TestValuesOfEveryLength(t *testing.T) {
	t.Parallel()
	for length := range 40 {
		for at := range length {
			v := []byte(strings.Repeat("\xffa", 20)[:length])
			v[at] = 0x7f
			if _, err := readRequest(get("X: " + string(v))); !errors.Is(err, httpwire.ErrFieldValue) {
				t.Errorf("%q: %v, want %v", v, err, httpwire.ErrFieldValue)
			}
		}
	}
}

func TestHeadEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want int
	}{
		{"", 0},
		{"GET", 0},
		{"GET\r\nA: b\r\n\r\nbody", 13},
		{"GET\r\n\r\nA\r\n\r\n", 7},
		{"GET\r\nA: b\r\n", 0},
		{"GET\nA: b\n\nbody", 10},
		{"GET\r\nA: b\n\r\n", 12},
		{"GET\r\nA: b\r\n\n", 12},
		{"\r\nGET", 2},
		{"\nGET", 1},
		{"\n", 1},
		{"\r\n", 2},
		{"\r", 0},
		{"\rGET\r\r\n\r\r\n", 0},
		{"a\n\rb\n\r\n", 7},
	}
	for _, tt := range tests {
		for step := 1; step <= len(tt.in)+1; step++ {
			got, from := 0, 0
			for have := min(step, len(tt.in)); ; have = min(have+step, len(tt.in)) {
				if got, from = httpwire.HeadEnd([]byte(tt.in[:have]), from); got > 0 || have == len(tt.in) {
					break
				}
			}
			if got != tt.want {
				t.Errorf("HeadEnd(%q) in steps of %d = %d, want %d", tt.in, step, got, tt.want)
			}
		}
	}
}

// TestHeadEndWaitsForAnEmptyLine: callers skip empty lines before a request, also those that come in parts.
func TestHeadEndWaitsForAnEmptyLine(t *testing.T) {
	t.Parallel()
	if length, next := httpwire.HeadEnd([]byte("\r"), 0); length != 0 || next != 0 {
		t.Errorf("HeadEnd of CR = %d, %d, want to begin again", length, next)
	}
}

// TestHeadEndDoesNotStartAgain: a head that comes byte by byte is looked at once.
func TestHeadEndDoesNotStartAgain(t *testing.T) {
	t.Parallel()
	in := []byte("GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100))
	from := 0
	for have := range in {
		var length int
		if length, from = httpwire.HeadEnd(in[:have], from); length != 0 || have-from > 2 {
			t.Fatalf("HeadEnd of %q = %d, and looks at %d bytes again", in[:have], length, have-from)
		}
	}
}

// TestHeadEndAgrees: a head that is accepted ends where HeadEnd says.
func TestHeadEndAgrees(t *testing.T) {
	t.Parallel()
	for _, part := range [][]requirement{requestLineRules(), targetRules(), fieldRules(), requestRules(), responseRules()} {
		for _, r := range part {
			for _, e := range r.accept {
				if n, _ := httpwire.HeadEnd([]byte(e.in+"\r\n\r\n"), 0); n != len(e.in) {
					t.Errorf("HeadEnd(%q) = %d, want %d", e.in, n, len(e.in))
				}
			}
		}
	}
}

// TestLimitsOfParts: a head that is too long is refused as soon as that is known, and not before.
func TestLimitsOfParts(t *testing.T) {
	t.Parallel()
	const target = 32 + len(" ") + 1024 + len(" HTTP/1.1\r")
	tests := []struct {
		name, in string
		length   int
		parse    func([]byte) error
		want     error
	}{
		{"request", get("X: " + strings.Repeat("a", 9<<10)), 8 << 10, parseRequest, httpwire.ErrHeadLong},
		{"request line", "GET /" + strings.Repeat("a", 9<<10), target + 1, parseRequest, httpwire.ErrTargetLong},
		{"response", ok("X: " + strings.Repeat("a", 9<<10)), 8 << 10, parseResponse, httpwire.ErrHeadLong},
	}
	for _, tt := range tests {
		if err := tt.parse([]byte(tt.in)[:tt.length-1]); !errors.Is(err, httpwire.ErrIncomplete) {
			t.Errorf("%s of %d bytes: %v, want ErrIncomplete", tt.name, tt.length-1, err)
		}
		if err := tt.parse([]byte(tt.in)[:tt.length]); !errors.Is(err, tt.want) {
			t.Errorf("%s of %d bytes: %v, want %v", tt.name, tt.length, err, tt.want)
		}
	}
}

func parseRequest(in []byte) error {
	var h httpwire.Head
	_, err := httpwire.ParseHead(in, &h, limits)
	return err
}

func parseResponse(in []byte) error {
	var h httpwire.ResponseHead
	_, err := httpwire.ParseResponseHead(in, &h, limits)
	return err
}

// TestValidTrailerName has what no parsed trailer can have; for the rest see the conformance table.
func TestValidTrailerName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"X-Sum": true, "": false, "X Y": false, "X:": false, "host": false} {
		if got := httpwire.ValidTrailerName([]byte(name)); got != want {
			t.Errorf("ValidTrailerName(%q) = %v, want %v", name, got, want)
		}
	}
}

// TestReset: what was parsed before leaves nothing behind, also if what comes next is refused.
func TestReset(t *testing.T) {
	t.Parallel()
	const in = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\nConnection: close, upgrade\r\nUpgrade: b\r\nExpect: 100-continue\r\n\r\n"
	var h httpwire.Head
	if _, err := httpwire.ParseHead([]byte(in), &h, limits); err != nil {
		t.Fatal(err)
	}
	old := h.Fields
	if _, err := httpwire.ParseHead([]byte("GET"), &h, limits); !errors.Is(err, httpwire.ErrIncomplete) {
		t.Fatal(err)
	}
	if got := describe(&h); got != "  1.0 no-path" {
		t.Errorf("head is %s", got)
	}
	forgotten(t, old)
	if cap(h.Fields) != cap(old) {
		t.Error("the memory of the fields is not kept")
	}
	var resp httpwire.ResponseHead
	if _, err := httpwire.ParseResponseHead([]byte(status(101, "Upgrade: a", "Connection: upgrade, close")), &resp, limits); err != nil {
		t.Fatal(err)
	}
	old = resp.Fields
	if _, err := httpwire.ParseResponseHead([]byte("HTTP"), &resp, limits); !errors.Is(err, httpwire.ErrIncomplete) {
		t.Fatal(err)
	}
	if got := describeResponse(&resp); got != "0 1.0 length=0 GET:none HEAD:none CONNECT:none" {
		t.Errorf("response head is %s", got)
	}
	forgotten(t, old)
	if cap(resp.Fields) != cap(old) {
		t.Error("the memory of the fields is not kept")
	}
}

func forgotten(t *testing.T, old exchange.Headers) {
	t.Helper()
	for _, f := range old {
		if f.Name != nil || f.Value != nil {
			t.Errorf("%s can still be reached", f.Name)
		}
	}
}

// TestRefusalsOfResponses: a bad response is a bad gateway, and says why.
func TestRefusalsOfResponses(t *testing.T) {
	t.Parallel()
	var h httpwire.ResponseHead
	_, err := httpwire.ParseResponseHead([]byte(ok("X : a")), &h, limits)
	e, isError := errors.AsType[*httpwire.Error](err)
	if !isError || e.Status != 502 || e.Error() != httpwire.ErrFieldName.Reason || !errors.Is(err, httpwire.ErrFieldName) {
		t.Errorf("ParseResponseHead() = %v, want %v with status 502", err, httpwire.ErrFieldName)
	}
	if httpwire.ErrFieldName.Unwrap() != nil {
		t.Errorf("%v wraps something", httpwire.ErrFieldName)
	}
}

func TestChunksReset(t *testing.T) {
	t.Parallel()
	var c httpwire.Chunks
	for _, in := range []string{
		"1;" + strings.Repeat("e", 500) + "\r\nx\r\n0\r\nA: b\r\n\r\n", "5;x\r\nhel", "5;x", "1", "1\r\nx", "1\r\nx\r", "0\r\nA: b", "g\r\n",
		"0\r\nX: " + strings.Repeat("x", 5000) + "\r\nY:\r\n\r\n", strings.Repeat(chunk(1, 500), 32),
	} {
		for rest := []byte(in); len(rest) > 0 && !c.Done(); {
			_, n, err := c.Next(rest)
			if err != nil {
				break
			}
			rest = rest[n:]
		}
		old := c.Trailer()
		c.Reset()
		if c.Done() || len(c.Trailer()) != 0 {
			t.Fatalf("after %q and Reset: done %v, trailer %q", in, c.Done(), c.Trailer())
		}
		forgotten(t, old)
		const next = "000000000000002;e\r\nab\r\n0\r\nC: d\r\nE: f\r\n\r\n"
		if n, data := drain(t, &c, next); n != len(next) || data != "ab" || len(c.Trailer()) != 2 || string(c.Trailer()[0].Value) != "d" {
			t.Fatalf("after %.40q and Reset: %d bytes, %q, trailer %q", in, n, data, c.Trailer())
		}
		c.Reset()
	}
}

// TestChunksGiveMemoryBack: a long trailer, which is rare, is not held for the next.
func TestChunksGiveMemoryBack(t *testing.T) {
	var c httpwire.Chunks
	for length, want := range map[int]bool{2 << 10: false, 10 << 10: true} {
		in := "0\r\nX: " + strings.Repeat("x", length) + "\r\n\r\n"
		body := []byte(in)
		allocates := testing.AllocsPerRun(10, func() {
			c.Reset()
			for n := 0; !c.Done(); {
				_, used, err := c.Next(body[n:])
				if err != nil {
					t.Fatal(err)
				}
				n += used
			}
		}) > 0
		if allocates != want {
			t.Errorf("a trailer of %d bytes allocates: %v, want %v", length, allocates, want)
		}
	}
}

func drain(t *testing.T, c *httpwire.Chunks, in string) (n int, data string) {
	t.Helper()
	for !c.Done() {
		d, used, err := c.Next([]byte(in)[n:])
		if err != nil {
			t.Fatalf("Next(%.40q) = %v", in[n:], err)
		}
		data += string(d)
		n += used
	}
	return n, data
}
