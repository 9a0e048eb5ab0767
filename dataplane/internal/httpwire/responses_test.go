package httpwire_test

import (
	"fmt"
	"strings"

	"keyward.dev/dataplane/internal/httpwire"
)

// ok is a response with these fields.
func ok(fields ...string) string { return wire(append([]string{"HTTP/1.1 200 OK"}, fields...)...) }

// status is one with a status and these fields.
func status(code int, fields ...string) string {
	return wire(append([]string{fmt.Sprintf("HTTP/1.1 %d ", code)}, fields...)...)
}

const (
	plain      = " GET:close HEAD:none CONNECT:none"
	withLength = " GET:length HEAD:none CONNECT:none"
	withChunks = " GET:chunks HEAD:none CONNECT:none"
	without    = " GET:none HEAD:none CONNECT:none"
)

func responseRules() []requirement {
	return []requirement{
		{
			"9112 4", "a status line is a version, a code and a reason, separated by one space; some leave out the last one",
			[]example{
				{ok(), "200 (OK)" + plain},
				{wire("HTTP/1.0 200 OK"), "200 (OK) 1.0 close" + plain},
				{wire("HTTP/1.1 200 "), "200" + plain},
				{wire("HTTP/1.1 200"), "200" + plain},
				{wire("HTTP/1.1 200  \tNot \xe9"), "200 ( \tNot \xe9)" + plain},
			},
			[]refusal{
				{"HTTP/1.1 200 OK\n\n", httpwire.ErrLineEnd},
				{"\r\n" + ok(), httpwire.ErrStatusLine},
				{wire(" HTTP/1.1 200 OK"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1  200 OK"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1\t200 OK"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 200\tOK"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 2000"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 200OK"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 200 O\rK"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 200 OK\r"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 200 O\x00K"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 200 \x00K"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1200 OK"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 "), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 200 \x7f"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1"), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 20"), httpwire.ErrStatusLine},
				{wire("ICY 200 OK"), httpwire.ErrStatusLine},
			},
		},
		{
			"9112 2.3", "the version is HTTP/1.1 or HTTP/1.0",
			[]example{{wire("HTTP/1.0 200 OK", "Connection: keep-alive"), "200 (OK) 1.0" + plain + " | Connection=keep-alive"}},
			[]refusal{
				{wire("HTTP/1.2 200 OK"), httpwire.ErrVersion},
				{wire("HTTP/2.0 200 OK"), httpwire.ErrVersion},
				{wire("HTTP/0.9 200 OK"), httpwire.ErrVersion},
				{wire("http/1.1 200 OK"), httpwire.ErrStatusLine},
				{wire("HTTPS1.1 200 OK"), httpwire.ErrStatusLine},
			},
		},
		{
			"9110 15", "a status code has three digits, from 100 to 599",
			[]example{
				{status(100), "100" + without},
				{status(599), "599 GET:close HEAD:none CONNECT:close"},
			},
			[]refusal{
				{status(99), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 099 "), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 0200 "), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 000 "), httpwire.ErrStatusLine},
				{status(600), httpwire.ErrStatusLine},
				{status(999), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 +20 "), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 2x0 "), httpwire.ErrStatusLine},
				{wire("HTTP/1.1 -20 "), httpwire.ErrStatusLine},
			},
		},
		{
			"9112 5", "fields are as in a request",
			[]example{{ok("X:", "Host: , ,", "Host:", "Expect: x", "y: \tz "), "200 (OK)" + plain + " | X= | Host=, , | Host= | Expect=x | y=z"}},
			[]refusal{
				{ok("X : a"), httpwire.ErrFieldName},
				{ok("X"), httpwire.ErrFieldName},
				{ok("X: a", " b"), httpwire.ErrFieldFold},
				{ok(" X: a"), httpwire.ErrFieldFold},
				{ok("X: a\x00"), httpwire.ErrFieldValue},
				{ok("X: a\rb"), httpwire.ErrFieldValue},
				{"HTTP/1.1 200 OK\r\nX: a\n\r\n", httpwire.ErrLineEnd},
				{"HTTP/1.1 200 OK\r\nX: a\r\n\n", httpwire.ErrLineEnd},
			},
		},
		{
			"9112 6.3", "a length is given once, in decimal digits",
			[]example{
				{ok("Content-Length: 0"), "200 (OK) length=0" + withLength + " | Content-Length=0"},
				{ok("Content-Length: 12"), "200 (OK) length=12" + withLength + " | Content-Length=12"},
			},
			[]refusal{
				{ok("Content-Length: 3", "Content-Length: 3"), httpwire.ErrContentLength},
				{ok("Content-Length: 3", "Content-Length: 4"), httpwire.ErrContentLength},
				{ok("Content-Length: 3, 3"), httpwire.ErrContentLength},
				{ok("Content-Length: +3"), httpwire.ErrContentLength},
				{ok("Content-Length: -1"), httpwire.ErrContentLength},
				{ok("Content-Length:"), httpwire.ErrContentLength},
				{ok("Content-Length: 9223372036854775808"), httpwire.ErrContentLength},
				{status(304, "Content-Length: x"), httpwire.ErrContentLength},
			},
		},
		{
			"9112 6.1", "the only transfer coding is chunked; it excludes a length, and HTTP/1.0",
			[]example{
				{ok("Transfer-Encoding: Chunked"), "200 (OK) chunked" + withChunks + " | Transfer-Encoding=Chunked"},
				{status(304, "Transfer-Encoding: chunked"), "304 chunked" + without + " | Transfer-Encoding=chunked"},
			},
			[]refusal{
				{ok("Transfer-Encoding: gzip, chunked"), httpwire.ErrTransferCoding},
				{ok("Transfer-Encoding: identity"), httpwire.ErrTransferCoding},
				{ok("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), httpwire.ErrTransferCoding},
				{ok("Transfer-Encoding: chunked", "Content-Length: 3"), httpwire.ErrLengthTwice},
				{ok("Content-Length: 0", "Transfer-Encoding: chunked"), httpwire.ErrLengthTwice},
				{wire("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"), httpwire.ErrEncodingOld},
			},
		},
		{
			"9112 6.3", "1xx, 204, 304, answers to HEAD and tunnels have no body; else it ends with the connection",
			[]example{
				{status(199), "199" + without},
				{status(204), "204" + without},
				{status(304), "304" + without},
				{status(304, "Content-Length: 5"), "304 length=5" + without + " | Content-Length=5"},
				{status(204, "Content-Length: 0"), "204 length=0" + without + " | Content-Length=0"},
				{status(103, "Content-Length: 0"), "103 length=0" + without + " | Content-Length=0"},
				{status(203), "203" + plain},
				{status(205), "205" + plain},
				{status(299), "299" + plain},
				{status(300), "300 GET:close HEAD:none CONNECT:close"},
				{status(303), "303 GET:close HEAD:none CONNECT:close"},
				{status(407, "Content-Length: 5"), "407 length=5 GET:length HEAD:none CONNECT:length | Content-Length=5"},
			},
			[]refusal{{status(204, "Content-Length: 5"), httpwire.ErrBodyForbidden}},
		},
		{
			"9110 8.6", "1xx and 204 announce no body",
			[]example{{status(200, "Content-Length: 1"), "200 length=1" + withLength + " | Content-Length=1"}},
			[]refusal{
				{status(204, "Content-Length: 1"), httpwire.ErrBodyForbidden},
				{status(204, "Transfer-Encoding: chunked"), httpwire.ErrBodyForbidden},
				{status(100, "Content-Length: 1"), httpwire.ErrBodyForbidden},
				{status(199, "Transfer-Encoding: chunked"), httpwire.ErrBodyForbidden},
				{status(101, "Upgrade: a", "Connection: upgrade", "Transfer-Encoding: chunked"), httpwire.ErrBodyForbidden},
			},
		},
		{
			"9110 15.2.2", "101 says which protocol is switched to",
			[]example{
				{status(101, "Upgrade: websocket", "Connection: Upgrade"), "101 upgrade=websocket" + without + " | Upgrade=websocket | Connection=Upgrade"},
				{status(426, "Upgrade: a", "Upgrade: b"), "426 upgrade=b GET:close HEAD:none CONNECT:close | Upgrade=a | Upgrade=b"},
				{status(200, "Connection: upgrade"), "200" + plain + " | Connection=upgrade"},
			},
			[]refusal{
				{status(101), httpwire.ErrSwitch},
				{status(101, "Upgrade: a"), httpwire.ErrSwitch},
				{status(101, "Connection: upgrade"), httpwire.ErrSwitch},
				{status(101, "Upgrade:", "Connection: upgrade"), httpwire.ErrSwitch},
				{status(101, "Upgrade: a", "Upgrade: a", "Connection: upgrade"), httpwire.ErrSwitch},
				{wire("HTTP/1.0 101 ", "Upgrade: a", "Connection: upgrade"), httpwire.ErrSwitch},
			},
		},
		{
			"9112 9.6", "close ends the connection; so does HTTP/1.0 without keep-alive",
			[]example{
				{ok("Connection: close"), "200 (OK) close" + plain + " | Connection=close"},
				{ok("Connection: keep-alive"), "200 (OK)" + plain + " | Connection=keep-alive"},
				{wire("HTTP/1.0 200 OK", "Content-Length: 1"), "200 (OK) 1.0 length=1 close" + withLength + " | Content-Length=1"},
			},
			[]refusal{{ok("Connection: " + strings.Repeat(",", 65)), httpwire.ErrManyOptions}},
		},
		{
			"9110 6.6.2", "Trailer announces only what may be in a trailer",
			[]example{{ok("Trailer: Grpc-Status"), "200 (OK)" + plain + " | Trailer=Grpc-Status"}},
			[]refusal{{ok("Trailer: Set-Cookie"), httpwire.ErrTrailerName}},
		},
		{
			"Limit", "the head and the number of fields are bounded",
			[]example{{
				ok(repeated(20)...),
				"200 (OK)" + plain + " | " + strings.ReplaceAll(strings.Join(repeated(20), " | "), ": ", "="),
			}},
			[]refusal{
				{ok(repeated(21)...), httpwire.ErrManyFields},
				{ok("X: " + strings.Repeat("a", 8<<10)), httpwire.ErrHeadLong},
				{"HTTP/1.1 200 " + strings.Repeat("a", 8<<10), httpwire.ErrHeadLong},
				{ok("X: " + strings.Repeat("a", 8<<10))[:8<<10], httpwire.ErrHeadLong},
			},
		},
	}
}
