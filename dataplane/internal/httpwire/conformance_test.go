package httpwire_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// requirement is something that RFC 9110 or RFC 9112 demands of an intermediary that reads messages, with messages that
// keep to it and messages that do not. "Limit" is what the RFCs leave to us.
type requirement struct {
	section, rule string
	accept        []example
	refuse        []refusal
}

// example is a message and what is understood by it; refusal is one that is refused, and why.
type (
	example struct{ in, want string }
	refusal struct {
		in   string
		want error
	}
)

var limits = httpwire.Limits{Head: 8 << 10, Target: 1 << 10, Fields: 20}

// TestConformance is the table of everything that is required. Breaking any check makes a case fail: TestMutants.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, part := range []struct {
		name  string
		read  func(in string) (string, error)
		rules []requirement
	}{
		{"request line", readRequest, requestLineRules()},
		{"target", readRequest, targetRules()},
		{"fields", readRequest, fieldRules()},
		{"request", readRequest, requestRules()},
		{"response", readResponse, responseRules()},
		{"chunked", readChunked, chunkedRules()},
		{"trailer", readChunked, trailerRules()},
	} {
		for _, r := range part.rules {
			t.Run(part.name+"/"+r.section+" "+r.rule, func(t *testing.T) {
				t.Parallel()
				r.check(t, part.read)
			})
		}
	}
}

func (r *requirement) check(t *testing.T, read func(string) (string, error)) {
	t.Helper()
	if len(r.accept) == 0 || len(r.refuse) == 0 {
		t.Errorf("there must be something to accept and something to refuse")
	}
	for _, e := range r.accept {
		if got, err := read(e.in); err != nil || got != e.want {
			t.Errorf("%.300q\n is %s, %v\nwant %s", e.in, got, err, e.want)
		}
	}
	for _, e := range r.refuse {
		if got, err := read(e.in); !errors.Is(err, e.want) {
			t.Errorf("%.300q\n is %.300s, %v\nwant %v", e.in, got, err, e.want)
		}
	}
}

// wire turns the lines of a head into bytes.
func wire(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

// get is a request with these fields beside Host.
func get(fields ...string) string {
	return wire(append([]string{"GET / HTTP/1.1", "Host: a"}, fields...)...)
}

// readRequest parses a request head and says what it is. Whatever the head, what follows it changes nothing, and as long as
// it is not whole there is no request.
func readRequest(in string) (string, error) {
	var h httpwire.Head
	n, err := httpwire.ParseHead([]byte(in+"body"), &h, limits)
	if err != nil {
		return "", err
	}
	if n != len(in) {
		return "", fmt.Errorf("length is %d, want %d", n, len(in))
	}
	return describe(&h), partsOf(in, parseRequest)
}

// partsOf demands that every part of a head, from its beginning, is incomplete.
func partsOf(in string, parse func(part []byte) error) error {
	for i := range len(in) {
		if err := parse([]byte(in[:i])); !errors.Is(err, httpwire.ErrIncomplete) {
			return fmt.Errorf("the first %d bytes: %v, want ErrIncomplete", i, err) //nolint:errorlint // another error
		}
	}
	return nil
}

func describe(h *httpwire.Head) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", h.Method, h.Target)
	if h.Path != nil && string(h.Path) != string(h.Target) {
		fmt.Fprintf(&b, " path=%s", h.Path)
	}
	if h.Query != nil {
		fmt.Fprintf(&b, " query=%s", h.Query)
	}
	if h.Scheme != "" {
		b.WriteString(" scheme=" + h.Scheme)
	}
	if h.Host != nil {
		fmt.Fprintf(&b, " host=%s", h.Host)
	}
	flag(&b, " 1.0", h.Minor == 0)
	if h.ContentLength != 0 {
		fmt.Fprintf(&b, " length=%d", h.ContentLength)
	}
	flag(&b, " no-path", h.Path == nil)
	flag(&b, " chunked", h.Chunked)
	flag(&b, " close", h.Close)
	flag(&b, " upgrade", h.Upgrade)
	flag(&b, " expect", h.ExpectContinue)
	fields(&b, h.Fields, "Host")
	return b.String()
}

func flag(b *strings.Builder, name string, set bool) {
	if set {
		b.WriteString(name)
	}
}

func fields(b *strings.Builder, hs exchange.Headers, except string) {
	for _, f := range hs {
		if !strings.EqualFold(string(f.Name), except) {
			fmt.Fprintf(b, " | %s=%s", f.Name, f.Value)
		}
	}
}

func readResponse(in string) (string, error) {
	var h httpwire.ResponseHead
	n, err := httpwire.ParseResponseHead([]byte(in+"body"), &h, limits)
	if err != nil {
		e, ok := errors.AsType[*httpwire.Error](err)
		if !ok || e.Status != 502 {
			return "", fmt.Errorf("%v, want an Error with status 502", err) //nolint:errorlint // not what is looked for
		}
		return "", err
	}
	if n != len(in) {
		return "", fmt.Errorf("length is %d, want %d", n, len(in))
	}
	return describeResponse(&h), partsOf(in, parseResponse)
}

func describeResponse(h *httpwire.ResponseHead) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", h.Status)
	if len(h.Reason) > 0 {
		fmt.Fprintf(&b, " (%s)", h.Reason)
	}
	flag(&b, " 1.0", h.Minor == 0)
	if h.ContentLength >= 0 {
		fmt.Fprintf(&b, " length=%d", h.ContentLength)
	}
	flag(&b, " chunked", h.Chunked)
	flag(&b, " close", h.Close)
	if h.Upgrade != nil {
		fmt.Fprintf(&b, " upgrade=%s", h.Upgrade)
	}
	names := [...]string{httpwire.NoBody: "none", httpwire.ByLength: "length", httpwire.ByChunks: "chunks", httpwire.UntilClose: "close"}
	fmt.Fprintf(&b, " GET:%s HEAD:%s CONNECT:%s", names[h.Framing([]byte("GET"))], names[h.Framing([]byte("HEAD"))],
		names[h.Framing([]byte("CONNECT"))])
	fields(&b, h.Fields, "")
	return b.String()
}

// readChunked decodes a body in pieces of every size, which must make no difference: neither to what is read nor to whether
// it is refused.
func readChunked(in string) (string, error) {
	want, wantErr := decode(in, len(in))
	for size := 1; size < len(in); size += 1 + size/16 {
		got, err := decode(in, size)
		if wantErr == nil && got != want || !errors.Is(err, wantErr) {
			return "", fmt.Errorf("in pieces of %d: %q, %v; at once: %q, %v", size, got, err, want, wantErr) //nolint:errorlint // another error
		}
	}
	return want, wantErr
}

// decode reads a chunked body that arrives in pieces of the given size and returns its data, the trailer, and what follows.
func decode(in string, size int) (string, error) {
	var c httpwire.Chunks
	var b strings.Builder
	rest := []byte(in)
	for !c.Done() {
		piece := rest[:min(size, len(rest))]
		data, n, err := c.Next(piece)
		if err != nil {
			return b.String(), err
		}
		if n == 0 {
			return "", errors.New("nothing is used, and there is no error")
		}
		b.Write(data)
		rest = rest[n:]
	}
	if data, n, err := c.Next(rest); data != nil || n != 0 || err != nil {
		return "", fmt.Errorf("after the end: %q, %d, %v", data, n, err) //nolint:errorlint // another error
	}
	fields(&b, c.Trailer(), "")
	if len(rest) > 0 {
		fmt.Fprintf(&b, " then %s", rest)
	}
	return b.String(), nil
}
