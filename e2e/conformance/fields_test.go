package conformance_test

import "strings"

// requestFields is the grammar of field lines, and their limits.
func requestFields() []requirement {
	return []requirement{
		{
			section: "RFC 9112, 5.1; RFC 9110, 5.1", says: "a field name is a token, right before the colon",
			accept: []trial{
				{name: "a name in any case", send: get("x-A: b\r\n"), want: and(served(), forwarded("X-A", "b"))},
				{name: "a name with every sign", send: get("X!#$%&'*+-.^_`|~9: b\r\n"), want: and(served(), forwarded("X!#$%&'*+-.^_`|~9", "b"))},
				{name: "a long name", send: get(strings.Repeat("X", 200) + ": b\r\n"), want: and(served(), forwarded(strings.Repeat("X", 200), "b"))},
			},
			reject: []trial{
				{name: "a space before the colon", send: post("Content-Length : 5\r\n", "hello"+smuggled), want: refused()},
				{name: "a tab before the colon", send: post("Content-Length\t: 5\r\n", "hello"+smuggled), want: refused()},
				{name: "a space before the colon of a coding", send: post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"+smuggled), want: refused()},
				{name: "a space in a name", send: get("X A: b\r\n") + smuggled, want: refused()},
				{name: "a parenthesis in a name", send: get("X(A): b\r\n") + smuggled, want: refused()},
				{name: "a slash in a name", send: get("X/A: b\r\n") + smuggled, want: refused()},
				{name: "a name beyond ASCII", send: get("X\xe9: b\r\n") + smuggled, want: refused()},
				{name: "a NUL in a name", send: get("X\x00A: b\r\n") + smuggled, want: refused()},
				{name: "an empty name", send: get(": b\r\n") + smuggled, want: refused()},
				{name: "a line without a colon", send: get("nonsense\r\n") + smuggled, want: refused()},
				{name: "another request line", send: get("GET /y HTTP/1.1\r\n") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 5.2", says: "a field folded over lines is refused",
			accept: []trial{{name: "a value with white space in it", send: get("X-A: b \t c\r\n"), want: and(served(), forwarded("X-A", "b \t c"))}},
			reject: []trial{
				{name: "a folded field", send: get("X-A: b\r\n c\r\n") + smuggled, want: refused()},
				{name: "a field folded with a tab", send: get("X-A: b\r\n\tc\r\n") + smuggled, want: refused()},
				{name: "a folded length", send: post("Content-Length:\r\n 5\r\n", "hello"+smuggled), want: refused()},
				{name: "a folded coding", send: post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"+smuggled), want: refused(400, 501)},
				{name: "a length that folding would hide", send: post("X-A: b\r\n Content-Length: 5\r\n", smuggled), want: refused()},
				{name: "folded by a line of white space", send: get("X-A: b\r\n \r\n") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9110, 5.5; RFC 9112, 5.1", says: "a value has no control characters; white space around it is not part of it",
			accept: []trial{
				{name: "much white space", send: get("X-A: \t b \t \r\n"), want: and(served(), forwarded("X-A", "b"))},
				{name: "no white space", send: get("X-A:b\r\n"), want: and(served(), forwarded("X-A", "b"))},
				{name: "an empty value", send: get("X-A:\r\nX-B: \r\n"), want: and(served(), forwarded("X-A", ""), forwarded("X-B", ""))},
				{name: "a value beyond ASCII", send: get("X-A: \xc3\xa9\xff\r\n"), want: and(served(), forwarded("X-A", "\xc3\xa9\xff"))},
				{name: "a value with colons, quotes and commas", send: get("X-A: b: \"c, d\" (e)\r\n"), want: and(served(), forwarded("X-A", "b: \"c, d\" (e)"))},
			},
			reject: []trial{
				{name: "a NUL in a value", send: get("X-A: b\x00c\r\n") + smuggled, want: refused()},
				{name: "a control character in a value", send: get("X-A: b\x01c\r\n") + smuggled, want: refused()},
				{name: "a vertical tab in a value", send: get("X-A: b\x0bc\r\n") + smuggled, want: refused()},
				{name: "a DEL in a value", send: get("X-A: b\x7fc\r\n") + smuggled, want: refused()},
				{name: "an escape character in a value", send: get("X-A: b\x1b[31mc\r\n") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9110, 5.3", says: "lines of one name keep their order and stay apart; a field that may stand once does",
			accept: []trial{
				{name: "three lines of one name", send: get("X-A: 3\r\nX-B: x\r\nx-a: 1\r\nX-A: 2\r\n"), want: and(served(), forwarded("X-A", "3", "1", "2"))},
				{name: "a list in two lines", send: get("Accept: a, b\r\nAccept: c\r\n"), want: and(served(), forwarded("Accept", "a, b", "c"))},
			},
			reject: []trial{
				{name: "two lengths", send: post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"+smuggled), want: refused()},
				{name: "the same length twice", send: post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"+smuggled), want: refused()},
			},
		},
		{
			section: "RFC 9110, 5.4", says: "more fields than the gateway wishes to read are refused, not ignored",
			accept: []trial{
				{name: "a hundred fields", send: get(many(100, "X-%d: b\r\n")), want: and(served(), forwarded("X-99", "b"))},
				{name: "a value of 30 KiB", send: get("X-A: " + strings.Repeat("b", 30<<10) + "\r\n"), want: and(served(), forwarded("X-A", strings.Repeat("b", 30<<10)))},
			},
			reject: []trial{
				{name: "three hundred fields", send: get(many(300, "X-%d: b\r\n")), want: and(answered(431), times(0))},
				{name: "a value of 100 KiB", send: get("X-A: " + strings.Repeat("b", 100<<10) + "\r\n"), want: and(answered(431), times(0))},
				{name: "a head without an end", send: get("X-A: " + strings.Repeat("b", 3<<20)), want: overwhelmed(431, 400)},
				{name: "a hundred thousand fields", send: get(strings.Repeat("X:\r\n", 100_000)), want: overwhelmed(431, 400)},
			},
		},
		{
			section: "RFC 9110, 5.1 and 7.6.1", says: "fields that the gateway does not know are forwarded, unless Connection names them",
			accept: []trial{{name: "an unknown field", send: get("X-Unknown: b\r\nConnection: x-other\r\n"), want: and(served(), forwarded("X-Unknown", "b"))}},
			reject: []trial{{name: "an unknown field that Connection names", send: get("X-Unknown: b\r\nConnection: x-unknown\r\n"), want: and(served(), withheld("X-Unknown"))}},
		},
		{
			section: "RFC 9110, 10.1.1", says: "100-continue is honoured, in HTTP/1.0 it is ignored; other expectations are 417",
			accept: []trial{
				{name: "100-continue", send: post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), want: and(passes(`POST /x "hello"`), withheld("Expect"))},
				{name: "100-continue that is waited for", send: post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""), asked: "hello", want: and(passes(`POST /x "hello"`), goesOn)},
				{name: "100-continue that is waited for, with chunks", send: post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""), asked: "5\r\nhello\r\n0\r\n\r\n", want: and(passes(`POST /x "hello"`), goesOn)},
				{name: "100-continue that is waited for, with the next request behind it", send: post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""), asked: "hello" + get(""), answers: 2, want: passes(`POST /x "hello"`, plainGet)},
				{name: "100-Continue", send: post("Expect: 100-Continue\r\nContent-Length: 5\r\n", "hello"), want: passes(`POST /x "hello"`)},
				{name: "100-continue with chunks", send: post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), want: passes(`POST /x "hello"`)},
				{name: "100-continue without a body", send: get("Expect: 100-continue\r\n"), want: served()},
				{
					name: "100-continue in HTTP/1.0", send: "POST /x HTTP/1.0\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
					want: and(passes(`POST /x "hello"`), noInterim),
				},
			},
			reject: []trial{
				{name: "an unknown expectation", send: post("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello"+smuggled), want: refused(417, 400)},
				{name: "two expectations", send: post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello"+smuggled), want: refused(417, 400)},
				{name: "a list of expectations", send: post("Expect: 100-continue, 200-ok\r\nContent-Length: 5\r\n", "hello"+smuggled), want: refused(417, 400)},
				{
					name: "100-continue of what is refused", send: "POST /x HTTP/1.1\r\nHost: nobody.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
					want: and(answered(404, 421), noInterim, times(0), ends),
				},
			},
		},
	}
}
