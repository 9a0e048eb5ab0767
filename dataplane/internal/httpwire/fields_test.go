package httpwire_test

import (
	"fmt"
	"strings"

	"keyward.dev/dataplane/internal/httpwire"
)

// repeated are n fields with different names.
func repeated(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("X%d: a", i)
	}
	return lines
}

// filled is a request of this size, and padded what it has beside Host.
func filled(size int) (in, padded string) {
	rest := size - len(get("X: "))
	return get("X: " + strings.Repeat("a", rest)), strings.Repeat("a", rest)
}

func fieldRules() []requirement {
	full, padding := filled(8 << 10)
	over, _ := filled(8<<10 + 1)
	return []requirement{
		{
			"9112 5", "a field line is a name, a colon and a value between optional white space",
			[]example{
				{get("X:a"), "GET / host=a | X=a"},
				{get("X: a"), "GET / host=a | X=a"},
				{get("X: \t a \t"), "GET / host=a | X=a"},
				{get("X:"), "GET / host=a | X="},
				{get("X: \t "), "GET / host=a | X="},
				{get("X: a:b"), "GET / host=a | X=a:b"},
				{get("X: a", "x: b"), "GET / host=a | X=a | x=b"},
			},
			[]refusal{
				{get("X"), httpwire.ErrFieldName},
				{get(": a"), httpwire.ErrFieldName},
				{get("X\n"), httpwire.ErrLineEnd},
				{"GET / HTTP/1.1\r\nHost: a\r\nX\n\r\n", httpwire.ErrLineEnd},
				{"GET / HTTP/1.1\r\nHost: a\n\r\n", httpwire.ErrLineEnd},
				{"GET / HTTP/1.1\r\nHost: a\r\n\n", httpwire.ErrLineEnd},
				{"GET / HTTP/1.1\r\nHost: a\r\n\rX", httpwire.ErrFieldName},
				{"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", httpwire.ErrFieldName},
			},
		},
		{
			"9112 5.1", "no white space between name and colon",
			[]example{{get("X: a"), "GET / host=a | X=a"}},
			[]refusal{
				{get("X : a"), httpwire.ErrFieldName},
				{get("X\t: a"), httpwire.ErrFieldName},
				{wire("GET / HTTP/1.1", "Host : a"), httpwire.ErrFieldName},
				{get("Transfer-Encoding : chunked"), httpwire.ErrFieldName},
			},
		},
		{
			"9112 5.2", "line folding is refused",
			[]example{{get("X: a", "Y: b"), "GET / host=a | X=a | Y=b"}},
			[]refusal{
				{get("X: a", " b"), httpwire.ErrFieldFold},
				{get("X: a", "\tb"), httpwire.ErrFieldFold},
				{get("X: a", " Y: b"), httpwire.ErrFieldFold},
				{get("X: a", " "), httpwire.ErrFieldFold},
			},
		},
		{
			"9110 5.1", "a field name is a token",
			[]example{{get("!#$%&'*+-.^_`|~09azAZ: a"), "GET / host=a | !#$%&'*+-.^_`|~09azAZ=a"}},
			[]refusal{
				{get("X(y): a"), httpwire.ErrFieldName},
				{get("X\xe9: a"), httpwire.ErrFieldName},
				{get("X\x00: a"), httpwire.ErrFieldName},
				{get("X\r: a"), httpwire.ErrFieldName},
				{get("\rX: a"), httpwire.ErrFieldName},
			},
		},
		{
			"9110 5.5", "a value has no control characters but tab",
			[]example{
				{get("X: a\tb"), "GET / host=a | X=a\tb"},
				{get("X: caf\xe9"), "GET / host=a | X=caf\xe9"},
				{get("X: \xff\xff\xff\xff\xff\xff\xff\xff\x80"), "GET / host=a | X=\xff\xff\xff\xff\xff\xff\xff\xff\x80"},
				{get("X: 0123\t567\t"), "GET / host=a | X=0123\t567"},
			},
			[]refusal{
				{get("X: a\rb"), httpwire.ErrFieldValue},
				{get("X: a\r"), httpwire.ErrFieldValue},
				{get("X: a\r\r"), httpwire.ErrFieldValue},
				{get("X: a\x00b"), httpwire.ErrFieldValue},
				{get("X: a\x7fb"), httpwire.ErrFieldValue},
				{get("X: \x1f"), httpwire.ErrFieldValue},
				{get("X: 0123456789\t\x01"), httpwire.ErrFieldValue},
				{get("X: a\x00\nY: b"), httpwire.ErrFieldValue},
				{get("X: \xff\x7f"), httpwire.ErrFieldValue},
				{get("X: \xff\xff\xff\xff\xff\xff\xff\x00"), httpwire.ErrFieldValue},
			},
		},
		{
			"Limit", "a head and the number of its fields are bounded",
			[]example{
				{full, "GET / host=a | X=" + padding},
				{get(repeated(19)...), "GET / host=a | " + strings.ReplaceAll(strings.Join(repeated(19), " | "), ": ", "=")},
			},
			[]refusal{
				{over, httpwire.ErrHeadLong},
				{"GET / HTTP/1.1\r\nX: " + strings.Repeat("a", 9<<10), httpwire.ErrHeadLong},
				{get(repeated(20)...), httpwire.ErrManyFields},
			},
		},
	}
}

// requestRules are about what fields mean for a request as a whole.
func requestRules() []requirement {
	const old = "GET / HTTP/1.0"
	options := func(n int) string { return "Connection: " + strings.Repeat("x,", n-1) + "x" }
	return []requirement{
		{
			"9112 6.3", "without Content-Length and Transfer-Encoding there is no body",
			[]example{
				{wire("POST / HTTP/1.1", "Host: a"), "POST / host=a"},
				{wire("POST / HTTP/1.0"), "POST / 1.0 close"},
			},
			[]refusal{{get("Content-Length: 3", "Transfer-Encoding: chunked"), httpwire.ErrLengthTwice}},
		},
		{
			"9110 8.6", "Content-Length is given once, in decimal digits",
			[]example{
				{get("Content-Length: 0"), "GET / host=a | Content-Length=0"},
				{get("content-length:  012\t"), "GET / host=a length=12 | content-length=012"},
				{get("Content-Length: 9223372036854775807"), "GET / host=a length=9223372036854775807 | Content-Length=9223372036854775807"},
				{get("Content-Lengths: x"), "GET / host=a | Content-Lengths=x"},
				{get("Xontent-Length: x"), "GET / host=a | Xontent-Length=x"},
			},
			[]refusal{
				{get("Content-Length:"), httpwire.ErrContentLength},
				{get("Content-Length: 3", "Content-Length: 3"), httpwire.ErrContentLength},
				{get("Content-Length: 0", "Content-Length: 0"), httpwire.ErrContentLength},
				{get("Content-Length: 3", "CONTENT-LENGTH: 4"), httpwire.ErrContentLength},
				{get("Content-Length: 3, 3"), httpwire.ErrContentLength},
				{get("Content-Length: 3,"), httpwire.ErrContentLength},
				{get("Content-Length: 3 3"), httpwire.ErrContentLength},
				{get("Content-Length: +3"), httpwire.ErrContentLength},
				{get("Content-Length: -3"), httpwire.ErrContentLength},
				{get("Content-Length: -0"), httpwire.ErrContentLength},
				{get("Content-Length: 3.0"), httpwire.ErrContentLength},
				{get("Content-Length: 0x3"), httpwire.ErrContentLength},
				{get("Content-Length: 3/"), httpwire.ErrContentLength},
				{get("Content-Length: :3"), httpwire.ErrContentLength},
				{get("Content-Length: \xb2"), httpwire.ErrContentLength},
				{get("Content-Length: 9223372036854775808"), httpwire.ErrContentLength},
				{get("Content-Length: 9223372036854775810"), httpwire.ErrContentLength},
				{get("Content-Length: 18446744073709551619"), httpwire.ErrContentLength},
				{get("Content-Length: 92233720368547758070"), httpwire.ErrContentLength},
			},
		},
		{
			"9112 6.1", "the transfer coding is chunked, once, and of HTTP/1.1",
			[]example{
				{get("Transfer-Encoding: chunked"), "GET / host=a length=-1 chunked | Transfer-Encoding=chunked"},
				{get("transfer-encoding:\tCHUNKED "), "GET / host=a length=-1 chunked | transfer-encoding=CHUNKED"},
				{get("Transfer_Encoding: x"), "GET / host=a | Transfer_Encoding=x"},
			},
			[]refusal{
				{get("Transfer-Encoding:"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: gzip, chunked"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: chunked, gzip"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: chunked, chunked"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: chunked,"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: ,chunked"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: chunked;a=b"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: \"chunked\""), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: xchunked"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: gzip"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: identity"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: identity", "Transfer-Encoding: chunked"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), httpwire.ErrTransferCoding},
				{get("Transfer-Encoding: \vchunked"), httpwire.ErrFieldValue},
				{wire(old, "Transfer-Encoding: chunked"), httpwire.ErrEncodingOld},
				{wire(old, "Transfer-Encoding: chunked", "Content-Length: 3"), httpwire.ErrEncodingOld},
			},
		},
		{
			"9112 6.3", "Content-Length and Transfer-Encoding exclude each other",
			[]example{{get("Transfer-Encoding: chunked"), "GET / host=a length=-1 chunked | Transfer-Encoding=chunked"}},
			[]refusal{
				{get("Content-Length: 3", "Transfer-Encoding: chunked"), httpwire.ErrLengthTwice},
				{get("Transfer-Encoding: chunked", "Content-Length: 3"), httpwire.ErrLengthTwice},
				{get("Transfer-Encoding: chunked", "Content-Length: 0"), httpwire.ErrLengthTwice},
			},
		},
		{
			"9112 9.3", "a connection goes on unless close says otherwise; in HTTP/1.0 only if keep-alive says so",
			[]example{
				{get("Connection: close"), "GET / host=a close | Connection=close"},
				{get("Connection: x,\tClose"), "GET / host=a close | Connection=x,\tClose"},
				{get("Connection: close", "Connection: keep-alive"), "GET / host=a close | Connection=close | Connection=keep-alive"},
				{get("Connection: closed, clos, eclose"), "GET / host=a | Connection=closed, clos, eclose"},
				{get("Connection: xlose"), "GET / host=a | Connection=xlose"},
				{get("Connection: keep-alive"), "GET / host=a | Connection=keep-alive"},
				{get("Connections: close"), "GET / host=a | Connections=close"},
				{get("Keep-Alive: close"), "GET / host=a | Keep-Alive=close"},
				{wire(old, "Connection: Keep-Alive"), "GET / 1.0 | Connection=Keep-Alive"},
				{wire(old, "Connection: keep-alive, x"), "GET / 1.0 | Connection=keep-alive, x"},
				{wire(old, "Connection: xeep-alive"), "GET / 1.0 close | Connection=xeep-alive"},
				{wire(old, "Connection: keep-alive, close"), "GET / 1.0 close | Connection=keep-alive, close"},
				{wire(old, "Connection: close, keep-alive"), "GET / 1.0 close | Connection=close, keep-alive"},
				{wire(old, "Connection: keep-alive", "Connection: x"), "GET / 1.0 | Connection=keep-alive | Connection=x"},
				{wire(old, "Connection: keep-alive, keep-alivf"), "GET / 1.0 | Connection=keep-alive, keep-alivf"},
				{get("Connection: close, xlose"), "GET / host=a close | Connection=close, xlose"},
				{get(options(64)), "GET / host=a | " + strings.Replace(options(64), ": ", "=", 1)},
			},
			[]refusal{
				{get(options(65)), httpwire.ErrManyOptions},
				{get(options(64), "Connection: x"), httpwire.ErrManyOptions},
			},
		},
		{
			"9110 7.8", "a switch of protocols is offered by Upgrade and the connection option upgrade; not in HTTP/1.0",
			[]example{
				{get("Connection: Upgrade", "Upgrade: websocket"), "GET / host=a upgrade | Connection=Upgrade | Upgrade=websocket"},
				{get("Upgrade: b", "Connection: x, UPGRADE, y"), "GET / host=a upgrade | Upgrade=b | Connection=x, UPGRADE, y"},
				{get("Upgrade: b", "Connection: upgrade, xpgrade"), "GET / host=a upgrade | Upgrade=b | Connection=upgrade, xpgrade"},
				{get("Upgrade: websocket"), "GET / host=a | Upgrade=websocket"},
				{get("Upgrade: a", "Connection: upgradf"), "GET / host=a | Upgrade=a | Connection=upgradf"},
				{get("Connection: upgrade"), "GET / host=a | Connection=upgrade"},
				{get("Connection: upgrade", "Upgrade:"), "GET / host=a | Connection=upgrade | Upgrade="},
				{get("Connection: upgrade", "Xpgrade: a"), "GET / host=a | Connection=upgrade | Xpgrade=a"},
				{wire(old, "Connection: upgrade, keep-alive", "Upgrade: a"), "GET / 1.0 | Connection=upgrade, keep-alive | Upgrade=a"},
			},
			[]refusal{{get("Connection: upgrade", "Upgrade: a\x00"), httpwire.ErrFieldValue}},
		},
		{
			"9110 10.1.1", "the only expectation is 100-continue, which HTTP/1.0 does not have",
			[]example{
				{get("Expect: 100-Continue"), "GET / host=a expect | Expect=100-Continue"},
				{wire(old, "Expect: 100-continue"), "GET / 1.0 close | Expect=100-continue"},
				{get("Expekt: a"), "GET / host=a | Expekt=a"},
			},
			[]refusal{
				{get("Expect:"), httpwire.ErrExpectation},
				{get("Expect: 200-ok"), httpwire.ErrExpectation},
				{get("Expect: 100-continue, x"), httpwire.ErrExpectation},
				{get("Expect: 100-continue", "Expect: 100-continue"), httpwire.ErrExpectation},
				{get("Expect: x", "Expect: 100-continue"), httpwire.ErrExpectation},
				{wire(old, "Expect: x"), httpwire.ErrExpectation},
			},
		},
		{
			"9110 6.6.2", "Trailer announces only what may be in a trailer",
			[]example{
				{get("Trailer: X-Sum, Content-MD5"), "GET / host=a | Trailer=X-Sum, Content-MD5"},
				{get("Trailer: X, ,Y,\t,"), "GET / host=a | Trailer=X, ,Y,\t,"},
				{get("Trailex: Host"), "GET / host=a | Trailex=Host"},
			},
			[]refusal{
				{get("Trailer: Content-Length"), httpwire.ErrTrailerName},
				{get("Trailer: X, transfer-encoding"), httpwire.ErrTrailerName},
				{get("Trailer: Trailer"), httpwire.ErrTrailerName},
				{get("Trailer: X Y"), httpwire.ErrTrailerName},
				{get("Trailer: X,("), httpwire.ErrTrailerName},
			},
		},
	}
}
