package conformance_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyward.dev/e2e/harness"
)

// evil is what must never be taken for an answer.
const evil = "HTTP/1.1 200 OK\r\nServer: evil\r\nContent-Length: 4\r\n\r\nevil"

// responseSyntax is how the upstream's responses are taken apart.
func responseSyntax() []requirement {
	answer := func(start, fields string) string { return start + "\r\n" + fields + "Content-Length: 2\r\n\r\nok" }
	return []requirement{
		{
			section: "RFC 9112, 4; RFC 9110, 15", says: "a status line is a version, three digits and perhaps a reason",
			accept: []trial{
				{name: "no reason", reply: answer("HTTP/1.1 200 ", ""), want: line(200, "ok")},
				{name: "another reason", reply: answer("HTTP/1.1 200 Sehr sch\xf6n", ""), want: line(200, "ok")},
				{name: "an unknown status", reply: answer("HTTP/1.1 299 Fine", ""), want: line(299, "ok")},
				{name: "an unknown error", reply: answer("HTTP/1.1 599 Bad", ""), want: line(599, "ok")},
				{name: "HTTP/1.0 becomes HTTP/1.1", reply: answer("HTTP/1.0 200 OK", ""), then: "close", want: and(line(200, "ok"), ownVersion, goesOn)},
				{name: "a redirect is not followed", reply: answer("HTTP/1.1 302 Found", "Location: http://b.test/\r\n"), want: and(line(302, "ok"), relayed("Location", "http://b.test/"), times(1))},
			},
			reject: []trial{
				{name: "two digits", reply: answer("HTTP/1.1 20 OK", ""), want: badGateway},
				{name: "four digits", reply: answer("HTTP/1.1 2000 OK", ""), want: badGateway},
				{name: "letters", reply: answer("HTTP/1.1 2xx OK", ""), want: badGateway},
				{name: "a sign", reply: answer("HTTP/1.1 +20 OK", ""), want: badGateway},
				{name: "two spaces", reply: answer("HTTP/1.1  200 OK", ""), want: badGateway},
				{name: "a tab", reply: answer("HTTP/1.1\t200 OK", ""), want: badGateway},
				{name: "no version", reply: answer("200 OK", ""), want: badGateway},
				{name: "HTTP/2.0", reply: answer("HTTP/2.0 200 OK", ""), want: badGateway},
				{name: "another protocol", reply: answer("ICY 200 OK", ""), want: badGateway},
				{name: "a version in lower case", reply: answer("http/1.1 200 OK", ""), want: badGateway},
				{name: "a status below 100", reply: answer("HTTP/1.1 099 OK", ""), want: badGateway},
				{name: "a bare CR in the reason", reply: answer("HTTP/1.1 200 O\rK", ""), want: badGateway},
				{name: "a NUL in the reason", reply: answer("HTTP/1.1 200 O\x00K", ""), want: badGateway},
				{name: "no HTTP", reply: "nonsense\r\n\r\n", want: badGateway},
				{name: "a body only", reply: "<html></html>", then: "close", want: badGateway},
				{name: "nothing", send: post("Content-Length: 5\r\n", "hello"), then: "close", want: badGateway},
				{name: "nothing, by force", send: post("Content-Length: 5\r\n", "hello"), then: "reset", want: badGateway},
			},
		},
		{
			section: "RFC 9112, 2.2", says: "lines of responses end with CRLF",
			accept: []trial{{name: "CRLF in responses", reply: ok("X-A: b\r\n"), want: and(line(200, "ok"), relayed("X-A", "b"))}},
			reject: []trial{
				{name: "bare LFs everywhere in a response", reply: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", want: badGateway},
				{name: "a bare LF after a response field", reply: ok("X-A: b\n"), want: badGateway},
				{name: "a bare LF ends a response head", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", want: badGateway},
				{name: "a bare CR in a response value", reply: ok("X-A: b\rX-B: c\r\n"), want: badGateway},
				{name: "a space before the first response field", reply: "HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nok", want: badGateway},
			},
		},
		{
			section: "RFC 9112, 5.1; RFC 9110, 5.1", says: "a response field's name is a token right before the colon, or the field is mended or the response discarded",
			accept: []trial{{name: "names of responses", reply: ok("x!#$%&'*+-.^_`|~9: b\r\n"), want: and(line(200, "ok"), relayed("x!#$%&'*+-.^_`|~9", "b"))}},
			reject: []trial{
				{name: "a space before a response colon", reply: ok("X-A : b\r\n"), want: badGateway},
				{name: "a space before the colon of a response length", reply: "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", then: "close", want: badGateway},
				{name: "a space in a response name", reply: ok("X A: b\r\n"), want: badGateway},
				{name: "an empty response name", reply: ok(": b\r\n"), want: badGateway},
				{name: "a response line without a colon", reply: ok("nonsense\r\n"), want: badGateway},
				{name: "a response name beyond ASCII", reply: ok("X\xe9: b\r\n"), want: badGateway},
			},
		},
		{
			section: "RFC 9112, 5.2", says: "a folded response field is a 502",
			accept: []trial{{name: "a response value with white space in it", reply: ok("X-A: b \t c\r\n"), want: and(line(200, "ok"), relayed("X-A", "b \t c"))}},
			reject: []trial{
				{name: "a folded response field", reply: ok("X-A: b\r\n c\r\n"), want: badGateway},
				{name: "a folded response length", reply: "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok", want: badGateway},
			},
		},
		{
			section: "RFC 9110, 5.5", says: "a response value has no CR, LF or NUL",
			accept: []trial{{name: "a response value beyond ASCII", reply: ok("X-A: \xc3\xa9\xff\r\nX-B:\r\n"), want: and(line(200, "ok"), relayed("X-A", "\xc3\xa9\xff"), relayed("X-B", ""))}},
			reject: []trial{
				{name: "a NUL in a response value", reply: ok("X-A: b\x00c\r\n"), want: badGateway},
				{name: "a control character in a response value", reply: ok("X-A: b\x01c\r\n"), want: badGateway},
			},
		},
		{
			section: "RFC 9110, 5.3", says: "lines of one response name keep their order and stay apart",
			accept: []trial{
				{name: "three cookies", reply: ok("Set-Cookie: c=3; Path=/\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"), want: and(line(200, "ok"), relayed("Set-Cookie", "c=3; Path=/", "a=1", "b=2"))},
				{name: "two challenges", reply: ok("WWW-Authenticate: Basic realm=\"a, b\"\r\nWWW-Authenticate: Bearer\r\n"), want: and(line(200, "ok"), relayed("WWW-Authenticate", "Basic realm=\"a, b\"", "Bearer"))},
			},
			reject: []trial{{name: "two response lengths that differ", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 50\r\n\r\nok", then: "close", want: badGateway}},
		},
		{
			section: "RFC 9110, 5.4", says: "a response head that the gateway does not wish to hold is a 502",
			accept: []trial{{name: "a response value of 30 KiB", reply: ok("X-A: " + strings.Repeat("b", 30<<10) + "\r\n"), want: and(line(200, "ok"), relayed("X-A", strings.Repeat("b", 30<<10)))}},
			reject: []trial{
				{name: "a response value of 2 MiB", reply: ok("X-A: " + strings.Repeat("b", 2<<20) + "\r\n"), want: badGateway},
				{name: "a response head without an end", reply: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 300_000), want: badGateway},
			},
		},
	}
}

// responseForwarding is what an intermediary adds and takes away on the way to the client.
func responseForwarding() []requirement {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
	return []requirement{
		{
			section: "RFC 9110, 7.6.1", says: "fields of the upstream's connection end with it",
			accept: []trial{{name: "an end-to-end response field", reply: ok("X-Kept: 1\r\nConnection: x-other\r\n"), want: and(line(200, "ok"), relayed("X-Kept", "1"))}},
			reject: []trial{
				{name: "a response field that Connection names", reply: ok("Connection: x-hop, x-hop2\r\nX-Hop: 1\r\nx-hop2: 2\r\n"), want: and(line(200, "ok"), relayed("X-Hop"), relayed("X-Hop2"))},
				{name: "a field of a second Connection field", reply: ok("Connection: x-hop\r\nX-Hop: 1\r\nX-Hop2: 1\r\nConnection: x-hop2\r\n"), want: and(line(200, "ok"), relayed("X-Hop"), relayed("X-Hop2"))},
				{name: "the known response ones", reply: ok("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n"), want: and(line(200, "ok"), relayed("Keep-Alive"), relayed("Proxy-Connection"), relayed("Upgrade"))},
				{name: "close of the upstream is not the client's", reply: ok("Connection: close\r\n"), then: "close", want: and(line(200, "ok"), relayed("Connection"), goesOn)},
			},
		},
		{
			section: "RFC 9110, 6.6.1", says: "a response without Date gets one, a response with one keeps it",
			accept: []trial{{name: "a response with a Date", reply: ok("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), want: and(line(200, "ok"), relayed("Date", "Sun, 06 Nov 1994 08:49:37 GMT"))}},
			reject: []trial{{name: "a response without a Date", want: dated}},
		},
		{
			section: "RFC 9110, 15.2", says: "interim responses are passed on, but for 100 and to HTTP/1.0; 101 only if asked for",
			accept: []trial{
				{name: "103", reply: early + ok(""), want: and(line(200, "ok"), interim(103))},
				{name: "two of 103", reply: early + early + ok(""), want: and(line(200, "ok"), interim(103, 103))},
				{name: "102", reply: "HTTP/1.1 102 Processing\r\n\r\n" + ok(""), want: and(line(200, "ok"), interim(102))},
				{name: "100 that nobody asked for", reply: "HTTP/1.1 100 Continue\r\n\r\n" + ok(""), want: line(200, "ok")},
			},
			reject: []trial{
				{name: "103 to HTTP/1.0", send: head("GET /x HTTP/1.0", ""), reply: early + ok(""), want: and(line(200, "ok"), noInterim)},
				{name: "101 that nobody asked for", reply: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n" + evil, want: badGateway},
				{name: "interim responses without a final one", reply: early, then: "close", send: post("Content-Length: 5\r\n", "hello"), want: badGateway},
				{name: "interim responses without an end", reply: strings.Repeat(early, 20_000), then: "close", send: post("Content-Length: 5\r\n", "hello"), want: badGateway},
				{name: "a malformed interim response", reply: "HTTP/1.1 103 Early\r\nX : y\r\n\r\n" + ok(""), want: badGateway},
			},
		},
		{
			section: "RFC 9110, 6.5", says: "trailer fields are passed on, but not those that change what came before",
			accept: []trial{{
				name: "a response trailer", reply: "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: v\r\n\r\n",
				want: and(line(200, "ok"), answerTrailer("X-T", "v")),
			}},
			reject: []trial{
				{name: "a length in a response trailer", reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 50\r\n\r\n", want: cleanOrCut("Content-Length")},
				{name: "a coding in a response trailer", reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", want: cleanOrCut("Transfer-Encoding")},
				{name: "a connection option in a response trailer", reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nConnection: close\r\n\r\n", want: cleanOrCut("Connection")},
			},
		},
		{
			section: "RFC 9110, 7.7, 8.4 and 14", says: "content is passed on as it is, its coding and its ranges too",
			accept: []trial{
				{name: "a content coding", reply: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x00\xff", want: and(line(200, "\x1f\x8b\x00\xff"), relayed("Content-Encoding", "gzip"), relayed("Content-Length", "4"))},
				{
					name: "a range", send: get("Range: bytes=0-1\r\nIf-Range: \"e\"\r\n"), reply: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nETag: \"e\"\r\nContent-Length: 2\r\n\r\nok",
					want: and(line(206, "ok"), relayed("Content-Range", "bytes 0-1/9"), relayed("ETag", `"e"`), forwarded("Range", "bytes=0-1"), forwarded("If-Range", `"e"`)),
				},
				{name: "no coding that nobody asked for", want: and(served(), withheld("Accept-Encoding"))},
			},
			reject: []trial{{name: "no type that nobody stated", reply: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", want: and(line(200, "<html>"), relayed("Content-Type"))}},
		},
	}
}

// ownVersion is that the answer has the gateway's version.
func ownVersion(o *outcome) error {
	if got := o.answers[len(o.answers)-1].Line; !strings.HasPrefix(got, "HTTP/1.1 ") {
		return fmt.Errorf("answered %q", got)
	}
	return nil
}

// dated is an answer with one Date.
func dated(o *outcome) error {
	if len(o.answers) != 1 || len(o.answers[0].Values("Date")) != 1 {
		return errors.New("the answer does not have one Date")
	}
	return nil
}

// interim are the statuses of the interim answers, but for 100.
func interim(want ...int) check {
	return func(o *outcome) error {
		var got []int
		for _, m := range o.interim {
			if m.Status() != 100 {
				got = append(got, m.Status())
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("interim answers %v, want %v", got, want)
		}
		if want[0] == 103 && o.interim[0].Get("Link") == "" {
			return errors.New("the interim answer has lost its field")
		}
		return nil
	}
}

// answerTrailer is a field of the answer's trailer.
func answerTrailer(name, value string) check {
	return func(o *outcome) error {
		if n := len(o.answers); n > 0 && slices.Contains(o.answers[n-1].Trailer, harness.Field{Name: name, Value: value}) {
			return nil
		}
		return fmt.Errorf("the client did not get the trailer %s: %s", name, value)
	}
}

// cleanOrCut is an answer without the trailer field, or none that could be taken for whole.
func cleanOrCut(name string) check {
	return func(o *outcome) error {
		if cutOff(o) == nil {
			return nil
		}
		for _, a := range o.answers {
			if slices.ContainsFunc(a.Trailer, func(f harness.Field) bool { return strings.EqualFold(f.Name, name) }) {
				return fmt.Errorf("the client got the trailer %s", name)
			}
		}
		return line(200, "ok")(o)
	}
}
