package conformance_test

import "strings"

// requestFraming is where a request's body ends.
func requestFraming() []requirement {
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	coding := func(value string) string { return "Transfer-Encoding: " + value + "\r\n" }
	return []requirement{
		{
			section: "RFC 9112, 6.3 (3)", says: "a length beside a transfer coding is an attack",
			accept: []trial{
				{name: "a length", send: post("Content-Length: 5\r\n", "hello"), want: and(passes(`POST /x "hello"`), goesOn)},
				{name: "chunked", send: post("Transfer-Encoding: chunked\r\n", chunks), want: and(passes(`POST /x "hello"`), goesOn)},
			},
			reject: []trial{
				{name: "a length, then chunked", send: post("Content-Length: 5\r\n"+coding("chunked"), "0\r\n\r\n"+smuggled), want: refused()},
				{name: "chunked, then a length", send: post(coding("chunked")+"Content-Length: 5\r\n", "0\r\n\r\n"+smuggled), want: refused()},
				{name: "chunked and the length 0", send: post(coding("chunked")+"Content-Length: 0\r\n", "0\r\n\r\n"+smuggled), want: refused()},
				{name: "a length and a coding far apart", send: post("Content-Length: 5\r\n"+many(50, "X-%d: y\r\n")+coding("chunked"), "0\r\n\r\n"+smuggled), want: refused()},
				{name: "a length and an unknown coding", send: post("Content-Length: 5\r\n"+coding("x"), "hello"+smuggled), want: refused(400, 501)},
			},
		},
		{
			section: "RFC 9112, 6.1 and 6.3 (4)", says: "the only coding is chunked, once and last; others are 501",
			accept: []trial{
				{name: "chunked in capitals", send: post(coding("CHUNKED"), chunks), want: passes(`POST /x "hello"`)},
				{name: "chunked after white space", send: post("Transfer-Encoding:\t chunked \r\n", chunks), want: passes(`POST /x "hello"`)},
			},
			reject: []trial{
				{name: "an unknown coding", send: post(coding("xchunked"), "0\r\n\r\n"+smuggled), want: refused(501, 400)},
				{name: "identity", send: post(coding("identity"), "hello"+smuggled), want: refused(501, 400)},
				{name: "gzip and chunked", send: post(coding("gzip, chunked"), "0\r\n\r\n"+smuggled), want: refused(501, 400)},
				{name: "chunked twice in a list", send: post(coding("chunked, chunked"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "chunked in two fields", send: post(coding("chunked")+coding("chunked"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "chunked not last", send: post(coding("chunked, identity"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "chunked and identity in two fields", send: post(coding("chunked")+coding("identity"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "an empty coding", send: post("Transfer-Encoding:\r\n", "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "an empty coding in a list", send: post(coding(", chunked"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "a list that ends in a comma", send: post(coding("chunked,"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "a quoted coding", send: post(coding(`"chunked"`), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "a coding with a parameter", send: post(coding("chunked;q=1"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "chunked after a vertical tab", send: post(coding("\x0bchunked"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "chunked before a NUL", send: post(coding("chunked\x00"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "chunked with a letter beyond ASCII", send: post(coding("chun\xe2\x84\xaaed"), "0\r\n\r\n"+smuggled), want: refused(400, 501)},
			},
		},
		{
			section: "RFC 9112, 6.1", says: "a transfer coding in HTTP/1.0 makes the framing faulty",
			accept: []trial{{name: "a length in HTTP/1.0", send: "POST /x HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", want: passes(`POST /x "hello"`)}},
			reject: []trial{
				{name: "chunked in HTTP/1.0", send: head("POST /x HTTP/1.0", "Connection: keep-alive\r\n"+coding("chunked")) + "0\r\n\r\n" + smuggled, want: refused()},
				{name: "chunked and a length in HTTP/1.0", send: head("POST /x HTTP/1.0", "Connection: keep-alive\r\nContent-Length: 5\r\n"+coding("chunked")) + "0\r\n\r\n" + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 6.2 and 6.3 (5); RFC 9110, 8.6", says: "a length is digits, once",
			accept: []trial{
				{name: "the length 0", send: post("Content-Length: 0\r\n", ""), want: and(passes(`POST /x ""`), goesOn)},
				{name: "leading zeros", send: post("Content-Length: 00005\r\n", "hello"), want: and(passes(`POST /x "hello"`), goesOn)},
				{name: "a GET with a body", send: get("Content-Length: 5\r\n") + "hello", want: and(passes(`GET /x "hello"`), goesOn)},
				{name: "a DELETE with a body", send: head("DELETE /x HTTP/1.1", "Content-Length: 5\r\n") + "hello", want: and(passes(`DELETE /x "hello"`), goesOn)},
			},
			reject: []trial{
				{name: "a list of lengths", send: post("Content-Length: 5, 5\r\n", "hello"+smuggled), want: refused()},
				{name: "a list of two lengths", send: post("Content-Length: 5, 6\r\n", "hello"+smuggled), want: refused()},
				{name: "two fields that differ", send: post("Content-Length: 0\r\nContent-Length: 5\r\n", "hello"+smuggled), want: refused()},
				{name: "two fields in other cases", send: post("Content-Length: 5\r\ncontent-length: 5\r\n", "hello"+smuggled), want: refused()},
				{name: "a plus sign", send: post("Content-Length: +5\r\n", "hello"+smuggled), want: refused()},
				{name: "a minus sign", send: post("Content-Length: -5\r\n", "hello"+smuggled), want: refused()},
				{name: "hexadecimal", send: post("Content-Length: 0x5\r\n", "hello"+smuggled), want: refused()},
				{name: "a hexadecimal digit", send: post("Content-Length: a\r\n", "hello12345"+smuggled), want: refused()},
				{name: "a decimal point", send: post("Content-Length: 5.0\r\n", "hello"+smuggled), want: refused()},
				{name: "an exponent", send: post("Content-Length: 5e0\r\n", "hello"+smuggled), want: refused()},
				{name: "an underscore", send: post("Content-Length: 0_5\r\n", "hello"+smuggled), want: refused()},
				{name: "a space within", send: post("Content-Length: 5 5\r\n", "hello"+smuggled), want: refused()},
				{name: "a semicolon", send: post("Content-Length: 5;\r\n", "hello"+smuggled), want: refused()},
				{name: "a quoted length", send: post("Content-Length: \"5\"\r\n", "hello"+smuggled), want: refused()},
				{name: "an empty length", send: post("Content-Length:\r\n", smuggled), want: refused()},
				{name: "a length that overflows 63 bits", send: post("Content-Length: 9223372036854775808\r\n", "hello"+smuggled), want: refused()},
				{name: "a length that overflows 64 bits to 5", send: post("Content-Length: 18446744073709551621\r\n", "hello"+smuggled), want: refused()},
				{name: "a length of other digits", send: post("Content-Length: \xd9\xa5\r\n", "hello"+smuggled), want: refused()},
			},
		},
		{
			section: "RFC 9112, 6.3 (7)", says: "a request with neither has no body: what follows is the next request",
			accept: []trial{
				{name: "a POST without a length", send: post("", ""), want: and(passes(`POST /x ""`), goesOn)},
				{name: "two of them", send: post("", "") + get(""), answers: 2, want: passes(`POST /x ""`, plainGet)},
			},
			reject: []trial{{name: "a POST without a length and with a body", send: post("", "hello\r\n\r\n"), answers: 2, want: and(statuses(200, 400), reaches(`POST /x ""`), ends)}},
		},
		{
			section: "RFC 9112, 8", says: "a request that does not end is not forwarded as if it did",
			accept: []trial{{name: "a sender that stops after the request", send: post("Content-Length: 5\r\n", "hello"), half: true, want: reachesWhole}},
			reject: []trial{
				{name: "an end within the request line", send: "GET /x HT", half: true, want: nothingServed},
				{name: "an end within the head", send: strings.TrimSuffix(get("X-A: b\r\n"), "\r\n"), half: true, want: nothingServed},
				{name: "an end within the body", send: post("Content-Length: 10\r\n", "hello"), half: true, want: nothingServed},
				{name: "an end within a chunk", send: post(coding("chunked"), "a\r\nhello"), half: true, want: nothingServed},
				{name: "an end after a chunk", send: post(coding("chunked"), "5\r\nhello\r\n"), half: true, want: nothingServed},
				{name: "an end within the last chunk", send: post(coding("chunked"), "5\r\nhello\r\n0\r\n"), half: true, want: nothingServed},
				{name: "an end within the trailer", send: post(coding("chunked"), "5\r\nhello\r\n0\r\nX-T: v\r\n"), half: true, want: nothingServed},
			},
		},
	}
}

// requestChunks is the chunked coding in requests.
func requestChunks() []requirement {
	chunked := func(body string) string { return post("Transfer-Encoding: chunked\r\n", body) }
	const hello, end = `POST /x "hello"`, "0\r\n\r\n"
	return []requirement{
		{
			section: "RFC 9112, 7.1", says: "chunk sizes are hexadecimal digits, as many octets follow, and CRLF ends both",
			accept: []trial{
				{name: "two chunks", send: chunked("2\r\nhe\r\n3\r\nllo\r\n" + end), want: and(passes(hello), goesOn)},
				{name: "no chunk but the last", send: chunked(end), want: and(passes(`POST /x ""`), goesOn)},
				{name: "sizes in both cases", send: chunked("a\r\n0123456789\r\nB\r\n0123456789a\r\n" + end), want: passes(`POST /x "01234567890123456789a"`)},
				{name: "leading zeros in a size", send: chunked("0005\r\nhello\r\n000\r\n\r\n"), want: passes(hello)},
				{name: "CRLF in the data", send: chunked("7\r\n\r\n0\r\n\r\n\r\n" + end), want: passes(`POST /x "\r\n0\r\n\r\n"`)},
				{name: "a chunk of 100 KiB", send: chunked("19000\r\n" + strings.Repeat("x", 100<<10) + "\r\n" + end), want: passes(`POST /x "` + strings.Repeat("x", 100<<10) + `"`)},
				{name: "a thousand chunks", send: chunked(strings.Repeat("1\r\nx\r\n", 1000) + end), want: passes(`POST /x "` + strings.Repeat("x", 1000) + `"`)},
			},
			reject: []trial{
				{name: "a sign", send: chunked("+5\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a minus sign", send: chunked("-5\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "0x", send: chunked("0x5\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a space before the size", send: chunked(" 5\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a space after the size", send: chunked("5 \r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a tab after the size", send: chunked("5\t\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a NUL after the size", send: chunked("5\x00\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a size with an underscore", send: chunked("0_5\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a size of other letters", send: chunked("g\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "no size", send: chunked("\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a size that overflows to 5", send: chunked("10000000000000005\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a size beyond all bounds", send: chunked("fffffffffffffffff5\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a negative size in disguise", send: chunked("ffffffffffffffff\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "data longer than its size", send: chunked("3\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "data shorter than its size", send: chunked("6\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "no CRLF after the data", send: chunked("5\r\nhello" + end + smuggled), want: refused()},
				{name: "two CRLFs after the data", send: chunked("5\r\nhello\r\n\r\n" + end + smuggled), want: refused()},
				{name: "a bare LF after the size", send: chunked("5\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a bare CR after the size", send: chunked("5\rhello\r\n" + end + smuggled), want: refused()},
				{name: "a bare LF after the data", send: chunked("5\r\nhello\n" + end + smuggled), want: refused()},
				{name: "a bare CR after the data", send: chunked("5\r\nhello\r" + end + smuggled), want: refused()},
				{name: "a bare LF after the last chunk", send: chunked("5\r\nhello\r\n0\n\r\n" + smuggled), want: refused()},
				{name: "a bare LF at the end", send: chunked("5\r\nhello\r\n0\r\n\n" + smuggled), want: refused()},
			},
		},
		{
			section: "RFC 9112, 7.1.1", says: "chunk extensions are ignored, bounded, and go no further",
			accept: []trial{
				{name: "an extension", send: chunked("5;a=b\r\nhello\r\n" + end), want: passes(hello)},
				{name: "a quoted extension", send: chunked("5;a=\"b; c\"\r\nhello\r\n" + end), want: passes(hello)},
				{name: "an extension without a value", send: chunked("5;a\r\nhello\r\n" + end), want: passes(hello)},
				{name: "an extension of the last chunk", send: chunked("5\r\nhello\r\n0;a=b\r\n\r\n"), want: passes(hello)},
			},
			reject: []trial{
				{name: "a bare CR in an extension", send: chunked("5;a\rb\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a bare LF in an extension", send: chunked("5;a\nb\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a bare LF after an extension", send: chunked("5;a\nhello\r\n" + end + smuggled), want: refused()},
				{name: "a NUL in an extension", send: chunked("5;a=\x00\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "an extension without a semicolon", send: chunked("5 a=b\r\nhello\r\n" + end + smuggled), want: refused()},
				{name: "an endless extension", send: chunked("5;" + strings.Repeat("a", 100_000) + "\r\nhello\r\n" + end + smuggled), want: refused(400, 431)},
				{name: "extensions without an end", send: chunked(strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 1000) + end + smuggled), want: refused(400, 413, 431)},
			},
		},
		{
			section: "RFC 9110, 6.5.1; RFC 9112, 7.1.2", says: "trailer fields that change framing, routing or authentication are not passed on",
			accept: []trial{
				{name: "a trailer field", send: chunked("5\r\nhello\r\n0\r\nX-T: v\r\n\r\n"), want: and(passes(hello), trailer("X-T", "v"))},
				{name: "two trailer fields", send: post("Transfer-Encoding: chunked\r\nTrailer: X-T, X-U\r\n", "5\r\nhello\r\n0\r\nX-T: v\r\nX-U: w\r\n\r\n"), want: and(passes(hello), trailer("X-T", "v"), trailer("X-U", "w"))},
				{name: "an announced trailer field", send: post("Transfer-Encoding: chunked\r\nTrailer: X-T\r\n", "5\r\nhello\r\n0\r\nX-T: v\r\n\r\n"), want: and(passes(hello), forwarded("Trailer", "X-T"), trailer("X-T", "v"))},
			},
			reject: []trial{
				{name: "a length in the trailer", send: chunked("5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n" + smuggled), answers: 2, want: withoutTrailer("Content-Length")},
				{name: "a coding in the trailer", send: chunked("5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled), answers: 2, want: withoutTrailer("Transfer-Encoding")},
				{name: "a Host in the trailer", send: chunked("5\r\nhello\r\n0\r\nHost: b.test\r\n\r\n" + smuggled), answers: 2, want: withoutTrailer("Host")},
				{name: "credentials in the trailer", send: chunked("5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n" + smuggled), answers: 2, want: withoutTrailer("Authorization")},
				{name: "a client address in the trailer", send: chunked("5\r\nhello\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n" + smuggled), answers: 2, want: withoutTrailer("X-Forwarded-For")},
				{name: "a connection option in the trailer", send: chunked("5\r\nhello\r\n0\r\nConnection: close\r\n\r\n" + smuggled), answers: 2, want: withoutTrailer("Connection")},
				{name: "a space before a trailer's colon", send: chunked("5\r\nhello\r\n0\r\nX-T : v\r\n\r\n" + smuggled), want: refused()},
				{name: "a trailer without a colon", send: chunked("5\r\nhello\r\n0\r\nnonsense\r\n\r\n" + smuggled), want: refused()},
				{name: "a folded trailer", send: chunked("5\r\nhello\r\n0\r\nX-T: v\r\n w\r\n\r\n" + smuggled), want: refused()},
				{name: "a NUL in a trailer", send: chunked("5\r\nhello\r\n0\r\nX-T: v\x00\r\n\r\n" + smuggled), want: refused()},
				{name: "a bare LF in a trailer", send: chunked("5\r\nhello\r\n0\r\nX-T: v\nX-U: w\r\n\r\n" + smuggled), want: refused()},
				{name: "an endless trailer", send: chunked("5\r\nhello\r\n0\r\n" + strings.Repeat("X-T: "+strings.Repeat("v", 500)+"\r\n", 500) + "\r\n" + smuggled), want: refused(400, 431)},
				{name: "a Trailer field that names framing", send: post("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n", "5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"+smuggled), answers: 2, want: withoutTrailer("Content-Length")},
			},
		},
	}
}
