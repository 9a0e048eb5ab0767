package conformance_test

import (
	"fmt"
	"strings"
)

const plainGet = `GET /x ""`

// requestSyntax is how requests are taken apart into lines.
func requestSyntax() []requirement {
	return []requirement{
		{
			section: "RFC 9112, 2.2", says: "empty lines before the request line are ignored, and nothing else is",
			accept: []trial{
				{name: "an empty line first", send: "\r\n" + get(""), want: served()},
				{name: "two empty lines first", send: "\r\n\r\n" + get(""), want: served()},
				{name: "an empty line between two", send: get("") + "\r\n" + get(""), answers: 2, want: passes(plainGet, plainGet)},
			},
			reject: []trial{
				{name: "a bare LF first", send: "\n" + get(""), want: refused()},
				{name: "a bare CR first", send: "\r" + get(""), want: refused()},
				{name: "a space first", send: " " + get(""), want: refused()},
				{name: "an empty line with a space first", send: " \r\n" + get(""), want: refused()},
				{name: "a NUL first", send: "\x00" + get(""), want: refused()},
			},
		},
		{
			section: "RFC 9112, 2.2", says: "lines end with CRLF; a bare LF is no end that everybody sees",
			accept: []trial{{name: "CRLF", want: served()}},
			reject: []trial{
				{name: "a bare LF after the request line", send: "GET /x HTTP/1.1\nHost: a.test\r\n\r\n" + smuggled, want: refused()},
				{name: "a bare LF after a field", send: get("X-A: b\nX-B: c\r\n") + smuggled, want: refused()},
				{name: "a bare LF that would hide a length", send: post("X-A: b\nContent-Length: 5\r\n", "hello"+smuggled), want: refused()},
				{name: "bare LFs everywhere", send: "GET /x HTTP/1.1\nHost: a.test\n\n" + smuggled, want: refused()},
				{name: "a bare LF ends the head", send: "GET /x HTTP/1.1\r\nHost: a.test\r\n\n" + smuggled, want: refused()},
				{name: "LF and CR the wrong way round", send: "GET /x HTTP/1.1\n\rHost: a.test\n\r\n\r" + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 2.2", says: "a CR that no LF follows makes the message invalid",
			accept: []trial{{name: "a CR as a letter of an escape", send: head("GET /x?a=%0D HTTP/1.1", ""), want: passes(`GET /x?a=%0D ""`)}},
			reject: []trial{
				{name: "a bare CR in a value", send: get("X-A: b\rc\r\n"), want: refused()},
				{name: "a bare CR that would hide a field", send: post("X-A: b\rContent-Length: 5\r\n", "hello"), want: refused()},
				{name: "a bare CR in a name", send: get("X-\rA: b\r\n"), want: refused()},
				{name: "a bare CR in the target", send: head("GET /\rx HTTP/1.1", ""), want: refused()},
				{name: "a bare CR at the end of a line", send: get("X-A: b\r\r\n"), want: refused()},
				{name: "a bare CR at the end of the request line", send: head("GET /x HTTP/1.1\r", ""), want: refused()},
				{name: "bare CRs everywhere", send: "GET /x HTTP/1.1\rHost: a.test\r\r" + smuggled, half: true, want: oneAnswerOrNone(400)},
			},
		},
		{
			section: "RFC 9112, 2.2", says: "no white space between the request line and the first field",
			accept: []trial{{name: "the first field at once", send: get("X-A: b\r\n"), want: and(served(), forwarded("X-A", "b"))}},
			reject: []trial{
				{name: "a space before the first field", send: "GET /x HTTP/1.1\r\n Host: a.test\r\n\r\n" + smuggled, want: refused()},
				{name: "a tab before the first field", send: "GET /x HTTP/1.1\r\n\tX-A: b\r\nHost: a.test\r\n\r\n" + smuggled, want: refused()},
				{name: "a line of white space first", send: "GET /x HTTP/1.1\r\n \r\nHost: a.test\r\n\r\n" + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 2.2", says: "what is no HTTP message is answered 400 and the connection closed",
			accept: []trial{{name: "a message", want: served()}},
			reject: []trial{
				{name: "letters", send: "nonsense\r\n\r\n", want: refused()},
				{name: "HTTP/0.9", send: "GET /x\r\n\r\n", want: refused()},
				{name: "SSH", send: "SSH-2.0-OpenSSH_9.2\r\n\r\n", want: refused()},
				{name: "SMTP", send: "EHLO a.test\r\n\r\n", want: refused()},
				{name: "a response", send: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", want: refused(400, 505)},
				{name: "zeros", send: strings.Repeat("\x00", 100) + "\r\n\r\n", want: refused()},
			},
		},
		{
			section: "RFC 9112, 2.3; RFC 9110, 2.5 and 6.2", says: "an intermediary sends its own version; a major version that it does not know is 505",
			accept: []trial{
				{name: "HTTP/1.0 becomes HTTP/1.1", send: "GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n", want: and(served(), ends)},
				{name: "HTTP/1.1", want: and(served(), goesOn)},
			},
			reject: []trial{
				{name: "HTTP/2.0", send: head("GET /x HTTP/2.0", ""), want: refused(505)},
				{name: "HTTP/0.9 with fields", send: head("GET /x HTTP/0.9", ""), want: refused(505, 400)},
				{name: "HTTP/9.9", send: head("GET /x HTTP/9.9", ""), want: refused(505)},
				{name: "the preface of HTTP/2 in plain", send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want: refused(505, 400)},
				{name: "a version in lower case", send: head("GET /x http/1.1", ""), want: refused()},
				{name: "a version with two digits", send: head("GET /x HTTP/1.10", ""), want: refused(400, 505)},
				{name: "a version without a dot", send: head("GET /x HTTP/11", ""), want: refused()},
				{name: "a version with letters", send: head("GET /x HTTP/1.1x", ""), want: refused()},
				{name: "another protocol", send: head("GET /x HTTPS/1.1", ""), want: refused()},
			},
		},
		{
			section: "RFC 9112, 3", says: "the request line has three words and two single spaces",
			accept: []trial{{name: "three words", want: served()}},
			reject: []trial{
				{name: "two spaces before the target", send: head("GET  /x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "two spaces after the target", send: head("GET /x  HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a tab for a space", send: head("GET\t/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a form feed for a space", send: head("GET\x0c/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a space in the target", send: head("GET /x y HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a space after the version", send: head("GET /x HTTP/1.1 ", "") + smuggled, want: refused()},
				{name: "four words", send: head("GET /x HTTP/1.1 HTTP/1.1", "") + smuggled, want: refused()},
				{name: "no target", send: head("GET HTTP/1.1", "") + smuggled, want: refused()},
				{name: "no version", send: head("GET /x", "") + smuggled, want: refused()},
				{name: "no method", send: head("/x HTTP/1.1", "") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 3.1; RFC 9110, 9.1", says: "a method is a token and its case matters",
			accept: []trial{
				{name: "a method of one's own", send: head("BREW /x HTTP/1.1", ""), want: passes(`BREW /x ""`)},
				{name: "a method with every sign", send: head("A!#$%&'*+-.^_`|~9 /x HTTP/1.1", ""), want: passes("A!#$%&'*+-.^_`|~9 /x \"\""), unlike: []string{"nginx"}},
				{name: "a method in lower case stays so", send: head("get /x HTTP/1.1", ""), want: passes(`get /x ""`), unlike: []string{"nginx"}},
			},
			reject: []trial{
				{name: "a parenthesis in the method", send: head("G(T /x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a colon in the method", send: head("GET: /x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a NUL in the method", send: head("GE\x00T /x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a method beyond ASCII", send: head("G\xc9T /x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "an endless method", send: head(strings.Repeat("A", 300)+" /x HTTP/1.1", "") + smuggled, want: refused(400, 501)},
			},
		},
	}
}

// oneAnswerOrNone is a refusal of what may not even be a whole message: nothing reaches the upstream.
func oneAnswerOrNone(status int) check {
	return func(o *outcome) error {
		if len(o.answers) > 1 || len(o.answers) == 1 && o.answers[0].Status() != status || !o.closed {
			return fmt.Errorf("%d answers, want at most one %d and the end of the connection", len(o.answers), status)
		}
		return o.nothingWhole()
	}
}

// requestTargets are the forms of a target, and Host.
func requestTargets() []requirement {
	return []requirement{
		{
			section: "RFC 9112, 3", says: "a target that is too long is 414; 8000 octets are not",
			accept: []trial{{name: "a long target", send: head("GET /x?"+strings.Repeat("a", 8000)+" HTTP/1.1", ""), want: passes("GET /x?" + strings.Repeat("a", 8000) + ` ""`)}},
			reject: []trial{
				{name: "a target too long", send: head("GET /x?"+strings.Repeat("a", 20000)+" HTTP/1.1", ""), want: and(answered(414), times(0))},
				{name: "a target far too long", send: head("GET /"+strings.Repeat("a", 2<<20)+" HTTP/1.1", ""), want: overwhelmed(414, 431, 400)},
			},
		},
		{
			section: "RFC 9112, 3.2.1", says: "origin-form: an absolute path, and a query that arrives as it is",
			accept: []trial{
				{name: "a query", send: head("GET /x?a=b&c=%2F%00;d//../e HTTP/1.1", ""), want: passes(`GET /x?a=b&c=%2F%00;d//../e ""`)},
				{name: "an empty query", send: head("GET /x? HTTP/1.1", ""), want: passes(`GET /x? ""`)},
				{name: "two question marks", send: head("GET /x?a?b HTTP/1.1", ""), want: passes(`GET /x?a?b ""`)},
				{name: "signs in the path", send: head("GET /x!$&'()*+,=:@-._~ HTTP/1.1", ""), want: passes(`GET /x!$&'()*+,=:@-._~ ""`)},
				{name: "escapes in the path", send: head("GET /x%20%e2%82%ac HTTP/1.1", ""), want: passes(`GET /x%20%E2%82%AC ""`)},
			},
			reject: []trial{
				{name: "a relative target", send: head("GET x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a fragment", send: head("GET /x#y HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a fragment in the query", send: head("GET /x?a#y HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a target beyond ASCII", send: head("GET /\xe9 HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a query beyond ASCII", send: head("GET /x?\xe9 HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a control character in the target", send: head("GET /\x01 HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a NUL in the target", send: head("GET /x\x00 HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a DEL in the target", send: head("GET /x\x7f HTTP/1.1", "") + smuggled, want: refused()},
				{name: "half an escape", send: head("GET /x%4 HTTP/1.1", "") + smuggled, want: refused()},
				{name: "an escape that is none", send: head("GET /x%zz HTTP/1.1", "") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 3.2.2; RFC 9110, 4.2.4", says: "absolute-form is taken, its authority is the host; user information is refused",
			accept: []trial{
				{name: "absolute-form", send: head("GET http://a.test/x HTTP/1.1", ""), want: and(served(), forwarded("Host", "a.test"))},
				{name: "absolute-form with a query", send: head("GET http://a.test/x?y HTTP/1.1", ""), want: passes(`GET /x?y ""`)},
				{name: "absolute-form without a path", send: head("GET http://a.test HTTP/1.1", ""), want: passes(`GET / ""`)},
				{name: "absolute-form with a query and no path", send: head("GET http://a.test?y HTTP/1.1", ""), want: passes(`GET /?y ""`)},
				{name: "scheme and host in capitals", send: head("GET HTTP://A.TEST/x HTTP/1.1", ""), want: served()},
			},
			reject: []trial{
				{name: "absolute-form of another host", send: head("GET http://b.test/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "absolute-form with another port", send: head("GET http://a.test:81/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "absolute-form without a Host", send: "GET http://a.test/x HTTP/1.1\r\n\r\n" + smuggled, want: refused()},
				{name: "a user", send: head("GET http://u@a.test/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "a user and a password", send: head("GET http://b.test:80@a.test/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "another scheme", send: head("GET ftp://a.test/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "no authority", send: head("GET http:///x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "one slash", send: head("GET http:/a.test/x HTTP/1.1", "") + smuggled, want: refused()},
				{name: "no scheme", send: head("GET //a.test/x HTTP/1.1", ""), want: and(answered(400), times(0))},
				{name: "a scheme that the connection does not have", send: head("GET https://a.test/x HTTP/1.1", ""), want: notBelieved},
			},
		},
		{
			section: "RFC 9112, 3.2.3; RFC 9110, 9.3.6", says: "authority-form is CONNECT's, and a gateway is no proxy to CONNECT to",
			accept: []trial{{name: "a method that begins like CONNECT", send: head("CONNECTED /x HTTP/1.1", ""), want: passes(`CONNECTED /x ""`)}},
			reject: []trial{
				{name: "CONNECT", send: "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n" + smuggled, want: refused(400, 404, 405, 501)},
				{name: "CONNECT to a path", send: head("CONNECT /x HTTP/1.1", "") + smuggled, want: refused(400, 405, 501)},
				{name: "CONNECT in absolute-form", send: head("CONNECT http://a.test/x HTTP/1.1", "") + smuggled, want: refused(400, 405, 501)},
				{name: "CONNECT with a length", send: "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 5\r\n\r\nhello" + smuggled, want: refused(400, 404, 405, 501)},
				{name: "authority-form for GET", send: head("GET a.test:80 HTTP/1.1", "") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 3.2.4; RFC 9110, 9.3.7", says: "asterisk-form is OPTIONS', and concerns the gateway itself",
			accept: []trial{{name: "OPTIONS of everything", send: head("OPTIONS * HTTP/1.1", ""), want: and(answered(200, 204, 400, 404, 405), times(0))}},
			reject: []trial{
				{name: "an asterisk for GET", send: head("GET * HTTP/1.1", "") + smuggled, want: refused()},
				{name: "two asterisks", send: head("OPTIONS ** HTTP/1.1", "") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 3.2; RFC 9110, 7.2", says: "one valid Host in every request",
			accept: []trial{
				{name: "a Host in any case with a port", send: "GET /x HTTP/1.1\r\nhOST:A.Test:8080\r\n\r\n", want: served()},
				{name: "HTTP/1.0 with a Host", send: "GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n", want: served()},
			},
			reject: []trial{
				{name: "no Host", send: "GET /x HTTP/1.1\r\n\r\n" + smuggled, want: refused()},
				{name: "no Host in HTTP/1.0", send: "GET /x HTTP/1.0\r\n\r\n", want: answered(400, 404)},
				{name: "an empty Host", send: "GET /x HTTP/1.1\r\nHost:\r\n\r\n" + smuggled, want: refused()},
				{name: "two Hosts", send: get("Host: b.test\r\n") + smuggled, want: refused()},
				{name: "the same Host twice", send: get("host: a.test\r\n") + smuggled, want: refused()},
				{name: "a Host with a path", send: "GET /x HTTP/1.1\r\nHost: a.test/x\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with a query", send: "GET /x HTTP/1.1\r\nHost: a.test?x\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with a user", send: "GET /x HTTP/1.1\r\nHost: b.test@a.test\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with a space", send: "GET /x HTTP/1.1\r\nHost: a.test b.test\r\n\r\n" + smuggled, want: refused()},
				{name: "a list of Hosts", send: "GET /x HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with junk for a port", send: "GET /x HTTP/1.1\r\nHost: a.test:80x\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with two ports", send: "GET /x HTTP/1.1\r\nHost: a.test:80:81\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with a port too large", send: "GET /x HTTP/1.1\r\nHost: a.test:65536\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host beyond ASCII", send: "GET /x HTTP/1.1\r\nHost: \xe4.test\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with an open bracket", send: "GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with an escape", send: "GET /x HTTP/1.1\r\nHost: a%2etest\r\n\r\n" + smuggled, want: refused()},
				{name: "a Host with a backslash", send: "GET /x HTTP/1.1\r\nHost: a.test\\b\r\n\r\n" + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9110, 7.4", says: "a request for a host of nobody is not forwarded",
			accept: []trial{{name: "a host of ours", want: served()}},
			reject: []trial{
				{name: "a host of nobody", send: "GET /x HTTP/1.1\r\nHost: nobody.test\r\n\r\n", want: and(answered(404, 421), times(0))},
				{name: "a host below ours", send: "GET /x HTTP/1.1\r\nHost: a.test.evil.test\r\n\r\n", want: and(answered(404, 421), times(0))},
			},
		},
	}
}

// notBelieved is a target that claims TLS: it is refused, or the upstream is told the truth.
func notBelieved(o *outcome) error {
	if len(o.answers) == 1 && o.answers[0].Status()/100 == 4 && len(o.seen) == 0 {
		return nil
	}
	return and(served(), forwarded("X-Forwarded-Proto", "http"))(o)
}
