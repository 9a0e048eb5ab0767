package conformance_test

import (
	"errors"
	"fmt"
	"strings"
)

// connections is how long they last, and in which order they carry what.
func connections() []requirement {
	const kept = "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n"
	return []requirement{
		{
			section: "RFC 9112, 9.3 and 9.6", says: "a connection goes on unless somebody says close; after that nothing more is read",
			accept: []trial{
				{name: "HTTP/1.1 goes on", want: and(served(), goesOn)},
				{name: "keep-alive in HTTP/1.1", send: get("Connection: keep-alive\r\n"), want: and(served(), goesOn)},
				{name: "an upstream that closes does not close the client's", reply: ok("Connection: close\r\n"), then: "close", want: and(served(), goesOn)},
			},
			reject: []trial{
				{name: "close", send: get("Connection: close\r\n") + smuggled, want: and(served(), ends)},
				{name: "close in a list, in capitals", send: get("Connection: x, CLOSE\r\n") + smuggled, want: and(served(), ends)},
				{name: "close in a second field", send: get("Connection: x\r\nConnection: close\r\n") + smuggled, want: and(served(), ends)},
				{name: "close and keep-alive", send: get("Connection: keep-alive, close\r\n") + smuggled, want: and(served(), ends)},
				{name: "HTTP/1.0", send: head("GET /x HTTP/1.0", "") + smuggled, want: and(served(), ends)},
				{name: "a refusal", send: get("X : y\r\n") + smuggled, want: refused()},
			},
		},
		{
			section: "RFC 9112, 9.3.2", says: "pipelined requests are answered in their order, also when one is refused",
			accept: []trial{
				{
					name: "three in a row", send: kept + "POST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello" + "GET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n",
					answers: 3, want: and(passes(`GET /1 ""`, `POST /2 "hello"`, `GET /3 ""`), inOrder("/1", "/2", "/3")),
				},
				{name: "a hundred in a row", send: strings.Repeat(kept, 100), answers: 100, want: statuses(repeat(100, 200)...)},
				{
					name: "after one that no route takes", send: "GET /1 HTTP/1.1\r\nHost: nobody.test\r\n\r\n" + get(""),
					answers: 2, want: and(statuses(404, 200), reaches(plainGet)),
				},
				{
					name: "after one with a body that no route takes", send: "POST /1 HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 5\r\n\r\nhello" + get(""),
					answers: 2, want: eitherRefused,
				},
				{
					name: "after HEAD", send: head("HEAD /1 HTTP/1.1", "") + get(""), answers: 2,
					want: and(statuses(200, 200), reaches(`HEAD /1 ""`, plainGet)),
				},
			},
			reject: []trial{
				{name: "after a malformed one", send: kept + get("X : y\r\n") + smuggled, answers: 2, want: and(statuses(200, 400), reaches(`GET /1 ""`), ends)},
				{name: "after a malformed body", send: kept + post("Transfer-Encoding: chunked\r\n", "x\r\n") + smuggled, answers: 2, want: and(statuses(200, 400), ends)},
			},
		},
		{
			section: "RFC 9112, 9.3.1; RFC 9110, 9.2.2", says: "only what is safe to repeat is repeated, on a connection that turned out to be closed",
			accept: []trial{
				{name: "a GET on a connection that was closed", warm: true, then: "close", want: and(answered(200), times(2))},
				{name: "a PUT on a connection that was closed", warm: true, send: head("PUT /x HTTP/1.1", "Content-Length: 5\r\n") + "hello", then: "close", want: and(answered(200), times(2))},
			},
			reject: []trial{
				{name: "a POST on a connection that was closed", warm: true, send: post("Content-Length: 5\r\n", "hello"), then: "close", want: and(answered(502), times(1))},
				{name: "a PATCH on a connection that was reset", warm: true, send: head("PATCH /x HTTP/1.1", "Content-Length: 5\r\n") + "hello", then: "reset", want: and(answered(502), times(1))},
				{name: "a GET of which a part was answered", warm: true, reply: "HTTP/1.1 200 OK\r\nContent-Le", then: "close", want: and(answered(502), times(1))},
			},
		},
	}
}

// forwarding is what an intermediary adds and takes away on the way to the upstream.
func forwarding() []requirement {
	const forged = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n"
	return []requirement{
		{
			section: "RFC 9110, 7.6.1", says: "fields of the connection end with it: those that Connection names, and those known",
			accept: []trial{
				{name: "an end-to-end field", send: get("X-Kept: 1\r\nConnection: x-other\r\n"), want: and(served(), forwarded("X-Kept", "1"))},
				{name: "empty elements of a list", send: get("Connection: , ,,\r\nX-Kept: 1\r\n"), want: and(served(), forwarded("X-Kept", "1"))},
				{name: "an option that is a part of a name", send: get("Connection: kept\r\nX-Kept: 1\r\n"), want: and(served(), forwarded("X-Kept", "1"))},
			},
			reject: []trial{
				{name: "a field that Connection names", send: get("Connection: x-hop\r\nX-Hop: 1\r\n"), want: and(served(), withheld("X-Hop"))},
				{name: "fields in a list with white space", send: get("Connection: ,\tX-HOP ,x-hop2,\r\nX-Hop: 1\r\nX-Hop2: 1\r\n"), want: and(served(), withheld("X-Hop", "X-Hop2"))},
				{name: "fields of two Connection fields", send: get("Connection: x-hop\r\nX-Hop: 1\r\nX-Hop2: 1\r\nconnection: x-hop2\r\n"), want: and(served(), withheld("X-Hop", "X-Hop2"))},
				{name: "every line of the field", send: get("X-Hop: 1\r\nConnection: x-hop\r\nx-hop: 2\r\n"), want: and(served(), withheld("X-Hop"))},
				{
					name: "the known ones", send: get("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: foo\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\n"),
					want: and(served(), withheld("Keep-Alive", "Proxy-Connection", "Upgrade", "Proxy-Authorization", "Proxy-Authenticate"), noForeignTE),
				},
				{
					name: "Connection cannot name what the gateway needs", send: post("Connection: host, content-length, transfer-encoding, x-forwarded-for, via\r\nContent-Length: 5\r\n", "hello"),
					want: and(passes(`POST /x "hello"`), forwarded("Host", "a.test"), forwarded("X-Forwarded-For", "127.0.0.1"), forwarded("Via", "1.1 keyward")),
				},
			},
		},
		{
			section: "RFC 9110, 7.6.3", says: "Via says through whom and in which version a request came",
			accept: []trial{
				{name: "Via of the gateway", want: forwarded("Via", "1.1 keyward")},
				{name: "Via after another", send: get("Via: 1.0 fred\r\n"), want: forwardedList("Via", "1.0 fred", "1.1 keyward")},
			},
			reject: []trial{
				{name: "Via of HTTP/1.0 does not say 1.1", send: head("GET /x HTTP/1.0", ""), want: forwarded("Via", "1.0 keyward")},
				{name: "Via is not lost", send: get("Via: 1.1 a\r\nVia: 1.1 b\r\n"), want: forwardedList("Via", "1.1 a", "1.1 b", "1.1 keyward")},
			},
		},
		{
			section: "RFC 9110, 7.6.2", says: "Max-Forwards of OPTIONS and TRACE counts down, and 0 goes no further",
			accept: []trial{
				{name: "OPTIONS that may go on", send: head("OPTIONS /x HTTP/1.1", "Max-Forwards: 5\r\n"), want: and(passes(`OPTIONS /x ""`), forwarded("Max-Forwards", "4"))},
				{name: "OPTIONS without a bound", send: head("OPTIONS /x HTTP/1.1", ""), want: and(passes(`OPTIONS /x ""`), withheld("Max-Forwards"))},
				{name: "Max-Forwards of others is left alone", send: get("Max-Forwards: 0\r\n"), want: and(served(), forwarded("Max-Forwards", "0"))},
			},
			reject: []trial{
				{name: "OPTIONS that may go no further", send: head("OPTIONS /x HTTP/1.1", "Max-Forwards: 0\r\n"), want: and(oneAnswer, times(0))},
				{name: "TRACE that may go no further", send: head("TRACE /x HTTP/1.1", "Max-Forwards: 0\r\n"), want: and(oneAnswer, times(0)), unlike: []string{"nginx"}},
			},
		},
		{
			section: "RFC 9110, 7.8", says: "Upgrade is for this connection, and a protocol that no route allows is not switched to",
			accept: []trial{{name: "a request without it", want: served()}},
			reject: []trial{
				{name: "h2c", send: get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), want: and(served(), withheld("Upgrade", "HTTP2-Settings", "Connection"))},
				{name: "an unknown protocol", send: get("Connection: upgrade\r\nUpgrade: foo/2\r\n"), want: and(served(), withheld("Upgrade"))},
				{name: "TLS", send: get("Connection: upgrade\r\nUpgrade: TLS/1.2\r\n"), want: and(served(), withheld("Upgrade"))},
				{name: "in HTTP/1.0", send: head("GET /x HTTP/1.0", "Connection: upgrade\r\nUpgrade: foo\r\n"), want: and(served(), withheld("Upgrade"))},
				{
					name: "an upstream that switches unasked", send: get("Connection: upgrade\r\nUpgrade: foo\r\n"),
					reply: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n" + ok("X-Seen: /next\r\n"), want: badGateway,
				},
			},
		},
		{
			section: "RFC 9110, 17.1; RFC 7239, 8", says: "what a client claims about itself is not passed on as if somebody vouched for it",
			accept: []trial{{name: "the client's address", want: and(forwarded("X-Forwarded-For", "127.0.0.1"), forwarded("X-Forwarded-Proto", "http"), forwarded("X-Forwarded-Host", host))}},
			reject: []trial{
				{
					name: "forged addresses", send: get(forged),
					want: and(served(), forwarded("X-Forwarded-For", "127.0.0.1"), forwarded("X-Forwarded-Proto", "http"), forwarded("X-Forwarded-Host", host), unforged),
				},
				{name: "forged addresses in other cases", send: get(strings.ToLower(forged)), want: and(served(), unforged)},
			},
		},
	}
}

func repeat(n, value int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = value
	}
	return out
}

// inOrder is that the answers are to the requests for these targets.
func inOrder(targets ...string) check {
	return func(o *outcome) error {
		for i, target := range targets {
			if i >= len(o.answers) || o.answers[i].Get("X-Seen") != target {
				return fmt.Errorf("answer %d is not the one to %s", i+1, target)
			}
		}
		return nil
	}
}

// eitherRefused is 404 and then either the next answer or the announced end.
func eitherRefused(o *outcome) error {
	if and(statuses(404, 200), reaches(plainGet))(o) == nil || and(statuses(404), ends, times(0))(o) == nil {
		return nil
	}
	return errors.New("neither a 404 that ends the connection nor one that the next answer follows")
}

// noForeignTE is that the upstream is told nothing of the client's transfer codings but, at most, that trailers are welcome.
func noForeignTE(o *outcome) error {
	if te := o.seen[0].Get("TE"); te != "" && te != "trailers" {
		return fmt.Errorf("the upstream got TE %q", te)
	}
	return nil
}

// forwardedList is a list field of the first request, whether it came in one line or several.
func forwardedList(name string, values ...string) check {
	return func(o *outcome) error {
		if len(o.seen) == 0 {
			return errors.New("nothing reached the upstream")
		}
		if got, want := strings.Join(o.seen[0].Values(name), ", "), strings.Join(values, ", "); got != want {
			return fmt.Errorf("the upstream got %s %q, want %q", name, got, want)
		}
		return nil
	}
}

// unforged is that nothing of what was claimed arrived.
func unforged(o *outcome) error {
	for _, s := range o.seen {
		for _, f := range s.Fields {
			if strings.Contains(f.Value, "1.2.3.4") || strings.Contains(f.Value, "evil.test") {
				return fmt.Errorf("the upstream got %s: %s", f.Name, f.Value)
			}
		}
	}
	return nil
}
