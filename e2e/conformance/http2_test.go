package conformance_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

// A frameTrial sends a message in frames of HTTP/2, which the gateway has to turn into one request of HTTP/1.1 or refuse.
type frameTrial struct {
	name string
	// fields, data and trailer are what is sent: name, value, name, value… The last of them ends the stream, unless open.
	fields  []string
	data    []string
	trailer []string
	open    bool
	// reply is what the upstream answers, then what becomes of its connection; both as in a trial.
	reply, then string
	want        func(o *frameOutcome) error
}

type frameOutcome struct {
	*harness.H2Response
	seen []harness.Seen
}

type frameRequirement struct {
	section, says  string
	accept, reject []frameTrial
}

// request are the pseudo fields of a request and what else is given.
func request(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "https", ":authority", "h.test", ":path", path}, more...)
}

// refusedFrames is a stream or a connection that is cut off, or answered 4xx, and nothing whole at the upstream.
func refusedFrames(o *frameOutcome) error {
	if !o.Reset && !o.Gone && o.Status/100 != 4 {
		return fmt.Errorf("answered %d", o.Status)
	}
	return (&outcome{seen: o.seen}).nothingWhole()
}

// passesFrames is a 200, and one request at the upstream like this.
func passesFrames(seen string, checks ...check) func(o *frameOutcome) error {
	return func(o *frameOutcome) error {
		if o.Status != 200 || !o.Ended {
			return fmt.Errorf("answered %d, ended %v", o.Status, o.Ended)
		}
		return and(append([]check{reaches(seen)}, checks...)...)(&outcome{seen: o.seen})
	}
}

// harmless is refused, or forwarded as one request without the field.
func harmless(seen, field string) func(o *frameOutcome) error {
	return func(o *frameOutcome) error {
		if refusedFrames(o) == nil {
			return nil
		}
		return passesFrames(seen, withheld(field))(o)
	}
}

// http2Requests are the demands of RFC 9113 on whoever turns HTTP/2 into HTTP/1.1.
func http2Requests() []frameRequirement {
	const plain = `GET /x ""`
	get := func(more ...string) []string { return request("GET", "/x", more...) }
	post := func(more ...string) []string { return request("POST", "/x", more...) }
	return []frameRequirement{
		{
			section: "RFC 9113, 8.2.1", says: "names are lower-case tokens, values have no CR, LF or NUL",
			accept: []frameTrial{
				{name: "a field", fields: get("x-a", "b"), want: passesFrames(plain, forwarded("X-A", "b"))},
				{name: "a value beyond ASCII", fields: get("x-a", "\xc3\xa9\xff"), want: passesFrames(plain, forwarded("X-A", "\xc3\xa9\xff"))},
				{name: "an empty value", fields: get("x-a", ""), want: passesFrames(plain, forwarded("X-A", ""))},
			},
			reject: []frameTrial{
				{name: "a name in capitals", fields: get("X-A", "b"), want: refusedFrames},
				{name: "an empty name", fields: get("", "b"), want: refusedFrames},
				{name: "a space in a name", fields: get("x a", "b"), want: refusedFrames},
				{name: "a colon in a name", fields: get("x:a", "b"), want: refusedFrames},
				{name: "a line end in a name", fields: get("x\r\ny", "b"), want: refusedFrames},
				{name: "a whole field in a name", fields: get("x: y\r\ntransfer-encoding", "chunked"), want: refusedFrames},
				{name: "a NUL in a name", fields: get("x\x00", "b"), want: refusedFrames},
				{name: "a name beyond ASCII", fields: get("x\xe9", "b"), want: refusedFrames},
				{name: "a line end in a value", fields: get("x-a", "b\r\nx-b: c"), want: refusedFrames},
				{name: "a CR in a value", fields: get("x-a", "b\rc"), want: refusedFrames},
				{name: "an LF in a value", fields: get("x-a", "b\nc"), want: refusedFrames},
				{name: "a NUL in a value", fields: get("x-a", "b\x00c"), want: refusedFrames},
				{name: "a request in a value", fields: get("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h.test\r\n\r\n"), want: refusedFrames},
			},
		},
		{
			section: "RFC 9113, 8.2.2", says: "fields of a connection make a message malformed",
			accept: []frameTrial{{name: "te: trailers", fields: get("te", "trailers"), want: passesFrames(plain)}},
			reject: []frameTrial{
				{name: "transfer-encoding", fields: post("transfer-encoding", "chunked"), data: []string{"0\r\n\r\n" + smuggled}, want: refusedFrames},
				{name: "transfer-encoding without a body", fields: get("transfer-encoding", "chunked"), want: refusedFrames},
				{name: "transfer-encoding: identity", fields: post("transfer-encoding", "identity"), data: []string{"hello"}, want: refusedFrames},
				{name: "connection", fields: get("connection", "x-a"), want: refusedFrames},
				{name: "connection: close", fields: get("connection", "close"), want: refusedFrames},
				{name: "keep-alive", fields: get("keep-alive", "timeout=5"), want: refusedFrames},
				{name: "proxy-connection", fields: get("proxy-connection", "keep-alive"), want: refusedFrames},
				{name: "upgrade", fields: get("upgrade", "websocket"), want: refusedFrames},
				{name: "te: gzip", fields: get("te", "gzip"), want: refusedFrames},
				{name: "http2-settings", fields: get("http2-settings", "AAMAAABkAAQAAP__"), want: harmless(plain, "Connection")},
			},
		},
		{
			section: "RFC 9113, 8.3 and 8.3.1", says: "the pseudo fields of a request stand once, first, and are valid",
			accept: []frameTrial{
				{name: "a query", fields: request("GET", "/x?a=b&c"), want: passesFrames(`GET /x?a=b&c ""`)},
				{name: "a method of one's own", fields: request("BREW", "/x"), want: passesFrames(`BREW /x ""`)},
				{name: "host instead of :authority", fields: []string{":method", "GET", ":scheme", "https", ":path", "/x", "host", "h.test"}, want: passesFrames(plain, forwarded("Host", "h.test"))},
				{name: "host that agrees", fields: get("host", "h.test"), want: passesFrames(plain, forwarded("Host", "h.test"))},
			},
			reject: []frameTrial{
				{name: "no method", fields: []string{":scheme", "https", ":authority", "h.test", ":path", "/x"}, want: refusedFrames},
				{name: "no path", fields: []string{":method", "GET", ":scheme", "https", ":authority", "h.test"}, want: refusedFrames},
				{name: "no scheme", fields: []string{":method", "GET", ":authority", "h.test", ":path", "/x"}, want: refusedFrames},
				{name: "an empty path", fields: request("GET", ""), want: refusedFrames},
				{name: "two methods", fields: append([]string{":method", "POST"}, get()...), want: refusedFrames},
				{name: "two paths", fields: append([]string{":path", "/y"}, get()...), want: refusedFrames},
				{name: "two authorities", fields: append([]string{":authority", "b.test"}, get()...), want: refusedFrames},
				{name: "an unknown pseudo field", fields: append([]string{":x", "y"}, get()...), want: refusedFrames},
				{name: ":status", fields: append([]string{":status", "200"}, get()...), want: refusedFrames},
				{name: "a pseudo field after a field", fields: []string{":method", "GET", ":scheme", "https", ":authority", "h.test", "x-a", "b", ":path", "/x"}, want: refusedFrames},
				{name: "a request line in the method", fields: request("GET /smuggled HTTP/1.1\r\nHost: h.test\r\n\r\nGET", "/x"), want: refusedFrames},
				{name: "a space in the method", fields: request("GET /smuggled", "/x"), want: refusedFrames},
				{name: "a request line in the path", fields: request("GET", "/x HTTP/1.1\r\nHost: h.test\r\n\r\nGET /smuggled"), want: refusedFrames},
				{name: "a space in the path", fields: request("GET", "/x HTTP/1.1"), want: refusedFrames},
				{name: "an LF in the path", fields: request("GET", "/x\n"), want: refusedFrames},
				{name: "a NUL in the path", fields: request("GET", "/x\x00"), want: refusedFrames},
				{name: "a fragment in the path", fields: request("GET", "/x#y"), want: refusedFrames},
				{name: "a path beyond ASCII", fields: request("GET", "/\xe9"), want: refusedFrames},
				{name: "a relative path", fields: request("GET", "x"), want: refusedFrames},
				{name: "an absolute path with a host", fields: request("GET", "http://b.test/x"), want: refusedFrames},
				{name: "an asterisk for GET in frames", fields: request("GET", "*"), want: refusedFrames},
				{name: "dot segments above the root", fields: request("GET", "/../x"), want: refusedFrames},
				{name: "an authority with a user", fields: []string{":method", "GET", ":scheme", "https", ":authority", "u@h.test", ":path", "/x"}, want: refusedFrames},
				{name: "an authority with a path", fields: []string{":method", "GET", ":scheme", "https", ":authority", "h.test/y", ":path", "/x"}, want: refusedFrames},
				{name: "an authority with a line end", fields: []string{":method", "GET", ":scheme", "https", ":authority", "h.test\r\nX-A: b", ":path", "/x"}, want: refusedFrames},
				{name: "an authority with a space", fields: []string{":method", "GET", ":scheme", "https", ":authority", "h.test b.test", ":path", "/x"}, want: refusedFrames},
				{name: "a scheme with a line end", fields: []string{":method", "GET", ":scheme", "https://b.test/ HTTP/1.1\r\nX-A: b\r\n", ":authority", "h.test", ":path", "/x"}, want: schemeIgnored},
				{name: "host that disagrees", fields: get("host", "b.test"), want: authorityWins},
				{name: "two hosts", fields: []string{":method", "GET", ":scheme", "https", ":path", "/x", "host", "h.test", "host", "b.test"}, want: refusedFrames},
				{name: "no authority at all", fields: []string{":method", "GET", ":scheme", "https", ":path", "/x"}, want: refusedFrames},
			},
		},
		{
			section: "RFC 9113, 8.1.1; RFC 9110, 8.6", says: "a content-length is the length of the data",
			accept: []frameTrial{
				{name: "data without a length", fields: post(), data: []string{"hel", "lo"}, want: passesFrames(`POST /x "hello"`)},
				{name: "data with its length", fields: post("content-length", "5"), data: []string{"hel", "lo"}, want: passesFrames(`POST /x "hello"`)},
				{name: "data with its length and an end of its own", fields: post("content-length", "5"), data: []string{"hello", ""}, want: passesFrames(`POST /x "hello"`)},
				{name: "a length of 0 and an end of its own", fields: post("content-length", "0"), data: []string{""}, want: passesFrames(`POST /x ""`)},
				{name: "no data and no length", fields: post(), want: passesFrames(`POST /x ""`)},
				{name: "a canary in the data", fields: post(), data: []string{smuggled}, want: passesFrames(fmt.Sprintf("POST /x %q", smuggled))},
			},
			reject: []frameTrial{
				{name: "a length too short", fields: post("content-length", "5"), data: []string{"hello" + smuggled}, want: refusedFrames},
				{name: "a length too short in a second frame", fields: post("content-length", "5"), data: []string{"hello", smuggled}, want: refusedFrames},
				{name: "a length of 0 with data", fields: post("content-length", "0"), data: []string{smuggled}, want: refusedFrames},
				{name: "a length too long", fields: post("content-length", "50"), data: []string{"hello"}, want: refusedFrames},
				{name: "a length without data", fields: post("content-length", "5"), want: refusedFrames},
				{name: "two lengths in frames", fields: post("content-length", "5", "content-length", "6"), data: []string{"hello"}, want: refusedFrames},
				{name: "a list of lengths in frames", fields: post("content-length", "5, 5"), data: []string{"hello"}, want: refusedFrames},
				{name: "a length with a sign", fields: post("content-length", "+5"), data: []string{"hello"}, want: refusedFrames},
				{name: "a length with a line end", fields: post("content-length", "5\r\nTransfer-Encoding: chunked"), data: []string{"hello"}, want: refusedFrames},
				{name: "an empty length in frames", fields: post("content-length", ""), data: []string{"hello"}, want: refusedFrames},
			},
		},
		{
			section: "RFC 9113, 8.2.3", says: "cookies are joined again, and nothing else is",
			accept: []frameTrial{{name: "three cookies in frames", fields: get("cookie", "a=1", "x-a", "b", "cookie", "b=2", "cookie", "c=3"), want: passesFrames(plain, forwarded("Cookie", "a=1; b=2; c=3"))}},
			reject: []frameTrial{{name: "other fields are not joined", fields: get("x-a", "1", "x-a", "2"), want: passesFrames(plain, forwarded("X-A", "1", "2"))}},
		},
		{
			section: "RFC 9113, 8.1; RFC 9110, 6.5.1", says: "a trailer ends the stream, and has neither pseudo fields nor framing",
			accept: []frameTrial{{name: "a trailer in frames", fields: post("trailer", "x-t"), data: []string{"hello"}, trailer: []string{"x-t", "v"}, want: passesFrames(`POST /x "hello"`, trailer("X-T", "v"))}},
			reject: []frameTrial{
				{name: "a pseudo field in a trailer", fields: post(), data: []string{"hello"}, trailer: []string{":path", "/smuggled"}, want: refusedFrames},
				{name: "a trailer in capitals", fields: post(), data: []string{"hello"}, trailer: []string{"X-T", "v"}, want: refusedFrames},
				{name: "a line end in a trailer", fields: post(), data: []string{"hello"}, trailer: []string{"x-t", "v\r\n\r\n" + smuggled}, want: refusedFrames},
				{name: "a length in a trailer", fields: post(), data: []string{"hello"}, trailer: []string{"content-length", "50"}, want: withoutFrameTrailer("Content-Length")},
				{name: "a transfer coding in a trailer", fields: post(), data: []string{"hello"}, trailer: []string{"transfer-encoding", "chunked"}, want: withoutFrameTrailer("Transfer-Encoding")},
				{name: "credentials in a trailer", fields: post("trailer", "authorization"), data: []string{"hello"}, trailer: []string{"authorization", "x"}, want: withoutFrameTrailer("Authorization")},
			},
		},
		{
			section: "RFC 9113, 8.5; RFC 8441, 3", says: "CONNECT is refused, in both of its forms",
			accept: []frameTrial{{name: "a method that begins like CONNECT in frames", fields: request("CONNECTED", "/x"), want: passesFrames(`CONNECTED /x ""`)}},
			reject: []frameTrial{
				{name: "CONNECT in frames", fields: []string{":method", "CONNECT", ":authority", "h.test:443"}, open: true, want: refusedOrNot501},
				{name: "CONNECT with a path in frames", fields: request("CONNECT", "/x"), want: refusedOrNot501},
				{name: "extended CONNECT that was not offered", fields: request("CONNECT", "/x", ":protocol", "websocket"), open: true, want: refusedOrNot501},
			},
		},
		{
			section: "RFC 9110, 5.4; RFC 9113, 10.5.1", says: "a header list larger than the gateway wishes to read is refused",
			accept: []frameTrial{{name: "a value of 8 KiB in frames", fields: get("x-a", strings.Repeat("b", 8<<10)), want: passesFrames(plain)}},
			reject: []frameTrial{{name: "three hundred fields in frames", fields: get(slices.Repeat([]string{"x-a", "b"}, 300)...), want: refusedFrames}},
		},
	}
}

// http2Responses are what clients of HTTP/2 get of HTTP/1.1.
func http2Responses() []frameRequirement {
	get := request("GET", "/x")
	return []frameRequirement{
		{
			section: "RFC 9113, 8.2.2", says: "fields of a connection do not get into HTTP/2",
			accept: []frameTrial{{name: "an end-to-end field in frames", fields: get, reply: ok("X-Kept: 1\r\n"), want: hasField("x-kept", "1")}},
			reject: []frameTrial{
				{name: "connection fields", fields: get, reply: ok("Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\nUpgrade: h2c\r\nProxy-Connection: x\r\n"), want: lacksFields("connection", "x-hop", "keep-alive", "upgrade", "proxy-connection", "transfer-encoding")},
				{name: "a coding into frames", fields: get, reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", want: lacksFields("transfer-encoding", "connection")},
			},
		},
		{
			section: "RFC 9113, 8.1", says: "a response that breaks off is reset, one that ends is ended; interim ones and trailers come through",
			accept: []frameTrial{
				{name: "chunks with a trailer into frames", fields: get, reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: v\r\n\r\n", want: h2Trailer},
				{name: "103 into frames", fields: get, reply: "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + ok(""), want: h2Interim},
				{name: "an end of the connection into frames", fields: get, reply: "HTTP/1.1 200 OK\r\n\r\nok", then: "close", want: h2Whole},
			},
			reject: []frameTrial{
				{name: "less than its length into frames", fields: get, reply: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", then: "close", want: h2Broken},
				{name: "an end between chunks into frames", fields: get, reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", then: "close", want: h2Broken},
				{name: "a malformed chunk into frames", fields: get, reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n", want: h2Broken},
				{name: "an end by force into frames", fields: get, reply: "HTTP/1.1 200 OK\r\n\r\nhello", then: "reset", want: h2Broken},
				{name: "101 into frames", fields: get, reply: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", want: h2BadGateway},
			},
		},
	}
}

// http2Messages runs the tables of HTTP/2.
func http2Messages(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	w := harness.NewWitness(t)
	s.serve("h", w.Addr, "", "")
	return func(t *testing.T) {
		b := &bench{addr: s.HTTP, host: "h.test", witness: w}
		for _, r := range slices.Concat(http2Requests(), http2Responses()) {
			for _, tr := range slices.Concat(r.accept, r.reject) {
				t.Run(tr.name, func(t *testing.T) {
					b.judgeFrames(t, s, tr, differences[s.engine]["http2/"+tr.name])
					if t.Failed() {
						t.Logf("%s: %s", r.section, r.says)
					}
				})
			}
		}
	}
}

func (b *bench) judgeFrames(t *testing.T, s *site, tr frameTrial, known string) {
	t.Helper()
	o, err := b.runFrames(s, tr)
	if err == nil {
		err = errors.Join(tr.want(o), b.follow())
	}
	switch {
	case err != nil && known == "":
		t.Errorf("%v\n    sent     %q data %q trailer %q\n    replied  %.300q, then %q", err, tr.fields, tr.data, tr.trailer, tr.reply, tr.then)
		if o != nil {
			t.Errorf("    got      %+v%v", o.H2Response, &outcome{seen: o.seen})
		}
	case err == nil && known != "":
		t.Errorf("this is no difference any more: take it off the list (%s)", known)
	case err != nil:
		t.Logf("a known difference: %s", known)
	}
}

func (b *bench) runFrames(s *site, tr frameTrial) (*frameOutcome, error) {
	b.witness.Take()
	if tr.reply != "" || tr.then != "" {
		b.witness.Answer(harness.Reply{Bytes: tr.reply, Then: tr.then})
	}
	c, err := harness.DialFrames(s.HTTPS, "h.test", s.Cert.Roots)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Message(1, tr.open, tr.fields, tr.data, tr.trailer); err != nil {
		return nil, err
	}
	resp, err := c.Await(1)
	return &frameOutcome{H2Response: resp, seen: b.seen()}, err
}
