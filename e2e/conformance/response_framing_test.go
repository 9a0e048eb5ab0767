package conformance_test

import (
	"errors"
	"fmt"
	"strings"
)

// responseFraming is where a response's body ends, and that nothing after it is taken for another response.
func responseFraming() []requirement {
	response := func(status, fields, body string) string {
		return "HTTP/1.1 " + status + "\r\n" + fields + "\r\n" + body
	}
	chunked := func(body string) string { return response("200 OK", "Transfer-Encoding: chunked\r\n", body) }
	return []requirement{
		{
			section: "RFC 9112, 6.3 (1); RFC 9110, 8.6 and 9.3.2", says: "HEAD, 1xx, 204 and 304 have no body, whatever their fields say",
			accept: []trial{
				{name: "HEAD with a length", send: head("HEAD /x HTTP/1.1", ""), reply: response("200 OK", "Content-Length: 100\r\n", ""), want: and(line(200, ""), relayed("Content-Length", "100"), goesOn)},
				{name: "HEAD with a coding", send: head("HEAD /x HTTP/1.1", ""), reply: response("200 OK", "Transfer-Encoding: chunked\r\n", ""), want: and(line(200, ""), goesOn)},
				{name: "HEAD without either", send: head("HEAD /x HTTP/1.1", ""), reply: response("200 OK", "", ""), want: and(line(200, ""), goesOn)},
				{name: "204", reply: response("204 No Content", "", ""), want: and(line(204, ""), goesOn)},
				{name: "304 with a length", reply: response("304 Not Modified", "Content-Length: 100\r\nETag: \"e\"\r\n", ""), want: and(line(304, ""), relayed("ETag", `"e"`), goesOn)},
			},
			reject: []trial{
				{name: "HEAD with a body", send: head("HEAD /x HTTP/1.1", ""), reply: response("200 OK", "Content-Length: 2\r\n", "ok"+evil), want: and(line(200, ""), goesOn)},
				{name: "204 with a body", reply: response("204 No Content", "", evil), want: noBody(204)},
				{name: "204 with a length", reply: response("204 No Content", "Content-Length: 2\r\n", "ok"+evil), want: noBody(204)},
				{name: "204 with a coding", reply: response("204 No Content", "Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"+evil), want: noBody(204)},
				{name: "304 with a body", reply: response("304 Not Modified", "Content-Length: 2\r\n", "ok"+evil), want: noBody(304)},
				{name: "103 with a length", reply: response("103 Early Hints", "Link: <x>\r\nContent-Length: 2\r\n", "") + ok(""), want: eitherWhole},
			},
		},
		{
			section: "RFC 9112, 6.3 (3) and (4)", says: "a response with a length beside a coding, or with an unknown coding, is discarded",
			accept: []trial{
				{name: "a chunked response", reply: chunked("2\r\nok\r\n0\r\n\r\n"), want: and(line(200, "ok"), goesOn)},
				{name: "a response with a length", reply: ok(""), want: and(line(200, "ok"), relayed("Content-Length", "2"), goesOn)},
			},
			reject: []trial{
				{name: "a length and a coding", reply: response("200 OK", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), want: badGateway},
				{name: "a coding and a length", reply: response("200 OK", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "2\r\nok\r\n0\r\n\r\n"), want: badGateway},
				{name: "an unknown response coding", reply: response("200 OK", "Transfer-Encoding: xchunked\r\n", "2\r\nok\r\n0\r\n\r\n"), then: "close", want: badGateway},
				{name: "gzip and chunked in a response", reply: response("200 OK", "Transfer-Encoding: gzip, chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), then: "close", want: badGateway},
				{name: "chunked twice in a response", reply: response("200 OK", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), then: "close", want: badGateway},
				{name: "an empty response coding", reply: response("200 OK", "Transfer-Encoding:\r\n", "ok"), then: "close", want: badGateway},
				{name: "a coding in an HTTP/1.0 response", reply: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", then: "close", want: badGateway},
			},
		},
		{
			section: "RFC 9112, 6.3 (5)", says: "a response with an invalid length is a 502, and its connection is closed",
			accept: []trial{{name: "the response length 0", reply: response("200 OK", "Content-Length: 0\r\n", ""), want: and(line(200, ""), goesOn)}},
			reject: []trial{
				{name: "a list of response lengths", reply: response("200 OK", "Content-Length: 2, 3\r\n", "ok"), want: badGateway},
				{name: "response lengths that differ", reply: response("200 OK", "Content-Length: 2\r\nContent-Length: 3\r\n", "ok"), want: badGateway},
				{name: "a response length with a sign", reply: response("200 OK", "Content-Length: +2\r\n", "ok"), want: badGateway},
				{name: "a negative response length", reply: response("200 OK", "Content-Length: -2\r\n", "ok"), want: badGateway},
				{name: "a response length that is no number", reply: response("200 OK", "Content-Length: two\r\n", "ok"), want: badGateway},
				{name: "an empty response length", reply: response("200 OK", "Content-Length:\r\n", "ok"), want: badGateway},
				{name: "a response length that overflows", reply: response("200 OK", "Content-Length: 18446744073709551618\r\n", "ok"), want: badGateway},
			},
		},
		{
			section: "RFC 9112, 6.3 (8)", says: "a response with neither ends with its connection, and not by force",
			accept: []trial{
				{name: "a response that ends with its connection", reply: response("200 OK", "", "ok"), then: "close", want: and(line(200, "ok"), goesOn)},
				{name: "the same to HTTP/1.0", send: head("GET /x HTTP/1.0", ""), reply: response("200 OK", "", "ok"), then: "close", want: and(line(200, "ok"), ends)},
				{name: "chunks to HTTP/1.0", send: head("GET /x HTTP/1.0", ""), reply: chunked("2\r\nok\r\n0\r\n\r\n"), want: and(line(200, "ok"), noCoding, ends)},
			},
			reject: []trial{{name: "a response that ends by force", reply: response("200 OK", "", strings.Repeat("x", 100)), then: "reset", want: cutOff}},
		},
		{
			section: "RFC 9112, 8", says: "a response that does not end is not passed on as if it did",
			accept: []trial{{name: "a response that ends", reply: response("200 OK", "Content-Length: 10\r\n", "0123456789"), then: "close", want: line(200, "0123456789")}},
			reject: []trial{
				{name: "less than its length", reply: response("200 OK", "Content-Length: 10\r\n", "hello"), then: "close", want: cutOff},
				{name: "less than its length, by force", reply: response("200 OK", "Content-Length: 10\r\n", "hello"), then: "reset", want: cutOff},
				{name: "nothing of its length", reply: response("200 OK", "Content-Length: 10\r\n", ""), then: "close", want: cutOff},
				{name: "an end within a response chunk", reply: chunked("a\r\nhello"), then: "close", want: cutOff},
				{name: "an end between response chunks", reply: chunked("5\r\nhello\r\n"), then: "close", want: cutOff},
				{name: "an end within the last response chunk", reply: chunked("5\r\nhello\r\n0\r\n"), then: "close", want: cutOff},
				{name: "an end within a response trailer", reply: chunked("5\r\nhello\r\n0\r\nX-T: v\r\n"), then: "close", want: cutOff},
				{name: "an end within a response head", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", then: "close", send: post("Content-Length: 5\r\n", "hello"), want: badGateway},
			},
		},
		{
			section: "RFC 9112, 7.1", says: "malformed chunks break a response off",
			accept: []trial{
				{name: "response chunks with extensions", reply: chunked("1;a=b\r\no\r\n1;c=\"d\"\r\nk\r\n0;e\r\n\r\n"), want: and(line(200, "ok"), goesOn)},
				{name: "a response chunk of 100 KiB", reply: chunked("19000\r\n" + strings.Repeat("x", 100<<10) + "\r\n0\r\n\r\n"), want: and(line(200, strings.Repeat("x", 100<<10)), goesOn)},
			},
			reject: []trial{
				{name: "a response size with a sign", reply: chunked("+2\r\nok\r\n0\r\n\r\n"), want: cutOff},
				{name: "a response size with 0x", reply: chunked("0x2\r\nok\r\n0\r\n\r\n"), want: cutOff},
				{name: "a response size of other letters", reply: chunked("g\r\nok\r\n0\r\n\r\n"), want: cutOff},
				{name: "a response size that overflows", reply: chunked("10000000000000002\r\nok\r\n0\r\n\r\n"), want: cutOff},
				{name: "response data longer than its size", reply: chunked("1\r\nok\r\n0\r\n\r\n"), want: cutOff},
				{name: "a bare LF after a response size", reply: chunked("2\nok\r\n0\r\n\r\n"), want: cutOff},
				{name: "a bare LF after response data", reply: chunked("2\r\nok\n0\r\n\r\n"), want: cutOff},
				{name: "a response trailer without a colon", reply: chunked("2\r\nok\r\n0\r\nnonsense\r\n\r\n"), want: cutOff},
				{name: "an endless response extension", reply: chunked("2;" + strings.Repeat("a", 100_000) + "\r\nok\r\n0\r\n\r\n"), want: cutOff},
			},
		},
		{
			section: "RFC 9112, 6.3 and 11.1", says: "bytes after a response are no response: the connection is dirty and not used again",
			accept: []trial{{name: "one response after another", warm: true, want: and(served(), goesOn)}},
			reject: []trial{
				{name: "more than the length", reply: ok("") + evil, want: and(line(200, "ok"), goesOn)},
				{name: "more than the last chunk", reply: chunked("2\r\nok\r\n0\r\n\r\n") + evil, want: and(line(200, "ok"), goesOn)},
				{name: "more than a response without a body", reply: response("200 OK", "Content-Length: 0\r\n", "") + evil, want: and(line(200, ""), goesOn)},
				{name: "more than a response to POST", send: post("Content-Length: 5\r\n", "hello"), reply: ok("") + evil, want: and(line(200, "ok"), goesOn)},
				{name: "a byte more", reply: ok("") + "\n", want: and(line(200, "ok"), goesOn)},
				{name: "an empty line more", reply: ok("") + "\r\n", want: and(line(200, "ok"), goesOn)},
			},
		},
	}
}

// noBody is an answer without a body or framing that would announce one, or a 502.
func noBody(status int) check {
	return func(o *outcome) error {
		if badGateway(o) == nil {
			return nil
		}
		return and(line(status, ""), relayed("Server"))(o)
	}
}

// eitherWhole is the whole answer or a 502, and in no case framing fields in an interim one (which the reader refuses).
func eitherWhole(o *outcome) error {
	if badGateway(o) == nil || line(200, "ok")(o) == nil {
		return nil
	}
	return fmt.Errorf("%d answers%s", len(o.answers), o.ending())
}

// noCoding is an answer that HTTP/1.0 can read.
func noCoding(o *outcome) error {
	if o.answers[0].Has("Transfer-Encoding") {
		return errors.New("a transfer coding to HTTP/1.0")
	}
	return nil
}
