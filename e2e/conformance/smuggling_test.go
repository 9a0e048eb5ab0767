package conformance_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// canary is a request for what the gateway refuses to everybody. It stands in every message of the corpus where a reader
// that reads differently would find a request: if one reaches an upstream, it was smuggled past the gateway.
const canary = "GET /canary HTTP/1.1\r\nHost: a.test\r\nX-Canary: 1\r\n\r\n"

// smuggling is the corpus: what is known to have split requests somewhere, and its relatives.
func smuggling() []trial {
	return slices.Concat(codings(), lengths(), chunkGames(), lineGames(), bodies(), expectations(), forms(), upgrades(), afterErrors())
}

// numbered names trials after what they are about.
func numbered(about string, messages []string) []trial {
	out := make([]trial, 0, len(messages))
	for i, m := range messages {
		out = append(out, trial{name: fmt.Sprintf("%s %d", about, i+1), send: m})
	}
	return out
}

// codings are CL.TE, TE.CL and TE.TE: a transfer coding that only one of two readers sees.
func codings() []trial {
	lines := []string{
		"Transfer-Encoding: chunked", "Transfer-Encoding:chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding:  chunked  ",
		"transfer-encoding: CHUNKED", "TRANSFER-ENCODING: chunked", "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked",
		" Transfer-Encoding: chunked", "\tTransfer-Encoding: chunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: \x0cchunked",
		"Transfer-Encoding: \xa0chunked", "Transfer-Encoding: \xc2\xa0chunked", "\xef\xbb\xbfTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\x00", "Transfer-Encoding: \x00chunked", "Transfer-Encoding: chun\x00ked", "Transfer\x00-Encoding: chunked",
		"Transfer-Encoding: chunked\x0b", "Transfer-Encoding: chunked\x7f", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunkedx",
		"Transfer-Encoding: x, chunked", "Transfer-Encoding: chunked, x", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity, chunked",
		"Transfer-Encoding: identity", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked,",
		"Transfer-Encoding: \"chunked\"", "Transfer-Encoding: 'chunked'", "Transfer-Encoding: chunked;q=0.5", "Transfer-Encoding: chunked ; x",
		"Transfer-Encoding: chunked x", "Transfer-Encoding: chun ked", "Transfer-Encoding:", "Transfer-Encoding: ", "Transfer-Encoding: ,",
		"Transfer_Encoding: chunked", "Transfer Encoding: chunked", "Transfer-Encoding chunked", "Transfer-Encoding=chunked", "TransferEncoding: chunked",
		"Transfer-\rEncoding: chunked", "X: y\rTransfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked", "X: y\r\rTransfer-Encoding: chunked",
		"X: y\n\rTransfer-Encoding: chunked", "X: y\r\n Transfer-Encoding: chunked", "X: y\r\n\tTransfer-Encoding: chunked", "X:\r\n\r Transfer-Encoding: chunked",
		"Transfer-Encoding\r\n : chunked", "Transfer-Encoding\r\n: chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding:\n chunked",
		"Transfer-Encoding:\r\n\tchunked", "Transfer-Encoding: chunked\r\n ", "Transfer-Encoding: chunked\r\n\t,identity", "Transfer-Encoding: chun\r\n ked",
		"Transfer-Encoding: chunked\nX: y", "Transfer-Encoding: chunked\rX: y", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
		"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nTransfer-encoding: chunked", "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chun\xe2\x84\xaaed", "Transfer-Encoding: =?utf-8?q?chunked?=", "Transfer-Encoding: %63hunked", "Content-Encoding: chunked",
		"TE: chunked", "TE: trailers, chunked", "Connection: transfer-encoding\r\nTransfer-Encoding: chunked", "Connection: content-length\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: compress", "Transfer-Encoding: cow",
		"Keep-Alive: Transfer-Encoding: chunked", ":transfer-encoding: chunked", "Transfer-Encoding:: chunked", "Transfer-Encoding: : chunked",
		"Trailer: Transfer-Encoding\r\nTransfer-Encoding: chunked", "X-HTTP-Method-Override: POST\r\nTransfer-Encoding: chunked",
	}
	var out []string
	for _, line := range lines {
		end := "0\r\n\r\n" + canary
		size := strconv.FormatInt(int64(len(canary)), 16)
		out = append(out,
			post(fmt.Sprintf("Content-Length: %d\r\n%s\r\n", len(end), line), end),                                   // CL.TE
			post(fmt.Sprintf("%s\r\nContent-Length: %d\r\n", line, len(end)), end),                                   // the same, the other way round
			post(fmt.Sprintf("Content-Length: %d\r\n%s\r\n", len(size)+2, line), size+"\r\n"+canary+"\r\n0\r\n\r\n"), // TE.CL
			post(line+"\r\n", size+"\r\n"+canary+"\r\n0\r\n\r\n"),                                                    // no length
		)
	}
	return numbered("coding", out)
}

// lengths are CL.CL and CL.0: a length that two readers read differently.
func lengths() []trial {
	n := len(canary)
	var out []string
	for _, format := range []string{
		"Content-Length: %d", "Content-Length: 0%d", "Content-Length: +%d", "Content-Length: -%d", "Content-Length: %d, %[1]d", "Content-Length: %d, 0",
		"Content-Length: 0, %d", "Content-Length: %d\r\nContent-Length: 0", "Content-Length: 0\r\nContent-Length: %d", "Content-Length: %d\r\nContent-Length: %[1]d",
		"Content-Length: %d\r\ncontent-length: %[1]d", "Content-Length : %d", "Content-Length\t: %d", " Content-Length: %d", "Content-Length:\r\n %d", "Content-Length: \x0b%d",
		"Content-Length: \x0c%d", "Content-Length: %d\x00", "Content-Length: \x00%d", "Content-Length: %d\x0b", "Content-Length: \xa0%d", "Content-Length: %d.0", "Content-Length: %de0",
		"Content-Length: 0x%x", "Content-Length: %x", "Content-Length: 0o%o", "Content-Length: 0b%b", "Content-Length: %d;", "Content-Length: %d;x=y", "Content-Length: \"%d\"",
		"Content-Length: '%d'", "Content-Length: %d %[1]d", "Content-Length: %d 0", "Content-Length: 0 %d", "Content-Length: %d,", "Content-Length: ,%d", "Content-Length: %d\n",
		"Content-Length: %d\nX: y", "Content-Length: %d\rX: y", "X: y\nContent-Length: %d", "X: y\rContent-Length: %d", "X: y\r\n Content-Length: %d", "Content_Length: %d", "Content Length: %d",
		"Content-Length %d", "Content-Length=%d", "Content-Length: 18446744073709551616%d", "Content-Length: %d\r\nContent-Length: ", "Content-Length:\r\nContent-Length: %d",
		"Content-Length: %d\r\n 0", "Connection: content-length\r\nContent-Length: %d", "Connection: close, content-length\r\nContent-Length: %d", "Content-Length: 1_%d", "Content-Length: %d_0",
		"Content-Length:: %d", "Content-Length: : %d", "\x00Content-Length: %d", "Content-Length\x00: %d", "X-Content-Length: %d", "Content-Length: %d\r\nX: \r\nContent-Length: %[1]d",
	} {
		line := fmt.Sprintf(format, n)
		out = append(out, post(line+"\r\n", canary), get(line+"\r\n")+canary)
	}
	return numbered("length", out)
}

// chunkGames are chunks whose end two readers see at different places.
func chunkGames() []trial {
	var out []string
	chunked := func(body string) { out = append(out, post("Transfer-Encoding: chunked\r\n", body)) }
	size := strconv.FormatInt(int64(len(canary)), 16)
	for _, line := range []string{
		"%s ", "%s\t", " %s", "\t%s", "+%s", "-%s", "0x%s", "0X%s", "%s;", "%s;\x00", "%s;a\r", "%s;a\n", "%s\r", "%s\x00", "%s\x0b", "%s,", "%s%%20", "%sg", "g%s", "%s h", "\"%s\"",
		"%s.0", "%s\n", "\n%s", "\r%s", "\r\n%s", "ffffffff%s", "10000000000000000%s", "00000000000000000000%s", "0_%s", "%s\xa0", "%s;a=\"\r\n", "%s;a=\"\n", "%s ;a", "%s; a=b", "%s;;", "%s;a=\x01",
	} {
		chunked(fmt.Sprintf(line, size) + "\r\n" + canary + "\r\n0\r\n\r\n")
		chunked(fmt.Sprintf(line, "0") + "\r\n\r\n" + canary)
	}
	for _, end := range []string{
		"0\r\n\r\n", "0\r\n\n", "0\n\r\n", "0\n\n", "0\r\r\n", "0\r\n\r", "0\r\n \r\n\r\n", "0;\r\n\r\n", "0;a\n\r\n\r\n", "00\r\n\r\n", "0\r\n\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\nX: y\r\n\n",
		"0\r\nX\r\n\r\n", "0\r\n: y\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\nX: y\r\n z\r\n\r\n", "0\r\nContent-Length: 100\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"0\r\nHost: b.test\r\n\r\n", "0\r\nConnection: close\r\n\r\n", "0\r\nX: y\rz\r\n\r\n", "0\r\nX: y\x00\r\n\r\n", "0\r\n\x00\r\n\r\n", "", "\r\n", "\r\n0\r\n\r\n", "0", "0\r\n", "5\r\nhello",
		"5\r\nhello\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhello\r\n\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "4\r\nhello\r\n0\r\n\r\n", "6\r\nhello\r\n0\r\n\r\n",
		"5;a\nb\r\nhello\r\n0\r\n\r\n", "5\n;a\r\nhello\r\n0\r\n\r\n", "1;" + strings.Repeat("a", 4000) + "\r\nx\r\n0\r\n\r\n",
	} {
		chunked(end + canary)
	}
	return numbered("chunk", out)
}

// lineGames are line ends that are one to one reader and none to another.
func lineGames() []trial {
	var out []string
	for _, end := range []string{"\n", "\r", "\r\r\n", "\n\r", "\x00\r\n", "\x0b", "\x0c", "\x85", "\xe2\x80\xa8", "\r\n\r", "\n\n", "\r\n \r\n", "\r\n\t\r\n", "\r\n\x00\r\n"} {
		out = append(out,
			get("X: y"+end+canary),
			get("X: y"+end+"\r\n")+canary,
			"GET /x HTTP/1.1"+end+"Host: a.test\r\n\r\n"+canary,
			"GET /x HTTP/1.1\r\nHost: a.test"+end+"\r\n"+canary,
			"GET /x HTTP/1.1\r\nHost: a.test\r\n"+end+canary,
			"GET /x?"+end+"GET /canary HTTP/1.1\r\nHost: a.test\r\n\r\n",
			end+get("")+end+canary,
			get("X"+end+": y\r\n")+canary,
			post("Content-Length: 5"+end+"X: y\r\n", "hello"+canary),
		)
	}
	return numbered("line", out)
}

// bodies are 0.CL: bodies where not everybody expects one. The canary is the body, and stays it.
func bodies() []trial {
	var out []string
	size := strconv.FormatInt(int64(len(canary)), 16)
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "PROPFIND", "SEARCH", "PURGE"} {
		out = append(out,
			head(method+" /x HTTP/1.1", fmt.Sprintf("Content-Length: %d\r\n", len(canary)))+canary,
			head(method+" /x HTTP/1.1", "Transfer-Encoding: chunked\r\n")+size+"\r\n"+canary+"\r\n0\r\n\r\n",
			head(method+" /x HTTP/1.0", fmt.Sprintf("Connection: keep-alive\r\nContent-Length: %d\r\n", len(canary)))+canary,
			head(method+" /x HTTP/1.0", "Connection: keep-alive\r\n")+canary,
		)
	}
	return numbered("body", out)
}

// expectations are games with Expect.
func expectations() []trial {
	var out []string
	for _, line := range []string{
		"Expect: 100-continue", "Expect: 100-Continue", "Expect: 100-continue ", "Expect: y 100-continue", "Expect: 100-continue, 100-continue", "Expect: 100-continue\r\nExpect: 100-continue",
		"Expect: ", "Expect:", "Expect: 100", "Expect: 100-continue;x", "Expect: \"100-continue\"", "Expect: 200-ok", " Expect: 100-continue", "Expect : 100-continue", "Expect: 100-continue\x00",
		"Connection: expect\r\nExpect: 100-continue", "Expect: 100-continue\r\nConnection: close",
	} {
		out = append(out,
			post(fmt.Sprintf("%s\r\nContent-Length: %d\r\n", line, len(canary)), canary),
			post(line+"\r\nContent-Length: 0\r\n", canary),
			post(line+"\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+canary),
			get(fmt.Sprintf("%s\r\nContent-Length: %d\r\n", line, len(canary)))+canary,
			get(line+"\r\n")+canary,
			head("POST /x HTTP/1.0", fmt.Sprintf("%s\r\nContent-Length: %d\r\n", line, len(canary)))+canary,
			"POST /canary HTTP/1.1\r\nHost: a.test\r\n"+line+"\r\nContent-Length: 5\r\n\r\n"+canary,
			"POST /x HTTP/1.1\r\nHost: nobody.test\r\n"+line+"\r\nContent-Length: 5\r\n\r\n"+canary,
		)
	}
	return numbered("expectation", out)
}

// forms are targets and hosts that mean the canary to one reader only, and CONNECT.
func forms() []trial {
	var out []string
	for _, target := range []string{
		"/canary", "/canary/", "/canary?x", "/%63anary", "/%63%61%6E%61%72%79", "/./canary", "/x/../canary", "/x/%2e%2e/canary", "/x/.%2e/canary", "/%2e/canary", "//canary", "///canary", "/.//canary", "/%2fcanary",
		"/x%2f..%2fcanary", "/x/..%2fcanary", "/x%2f../canary", "/x/..%5ccanary", "/\\canary", "/x\\..\\canary", "/x/..\\canary", "/%5ccanary", "/canary%00", "/canary%00.html", "/%00/../canary", "/x/..;/canary", "/;/canary",
		"/canary;x=y", "/;x/canary", "/x;/../canary", "/canary%2f", "/canary%20", "/canary.", "/canary%09", "/canary%23", "/canary%3f", "/canary#x", "/x#/../canary", "/x?/../canary", "/x/..?/canary", "/canary/../canary",
		"/x/../../canary", "/../canary", "http://a.test/canary", "http://a.test//canary", "http://a.test/x/../canary", "http://a.test/%63anary", "http://a.test\\canary", "http://a.test?/canary", "http://a.test#/canary",
		"http://a.test:80/canary", "http://a.test/x HTTP/1.1\r\nX: y", "//a.test/canary", "canary", "a.test/canary", "@a.test/canary", "http://b.test@a.test/canary", "http://a.test@b.test/canary", "https://a.test/canary", "*", "*/canary",
		"/x%0d%0aX:%20y", "/x%0d%0a%0d%0aGET%20/canary", "/%c0%afcanary", "/%e0%80%afcanary", "/%u002fcanary", "/%252fcanary", "/x/%252e%252e/canary", "/%ef%bc%8fcanary", "/x/.../canary", "/x/..%00/canary", "/x/%2e%2e%2fcanary",
	} {
		out = append(out, head("GET "+target+" HTTP/1.1", ""))
	}
	for _, h := range []string{
		"a.test\r\nHost: b.test", "b.test\r\nHost: a.test", "a.test, b.test", "a.test b.test", "a.test\tb.test", "a.test\x00", "a.test:80:81", "a.test:-1", "a.test:99999999", "a.test:", "a.test.", "a.test..", ".a.test", "A.TEST",
		"a.test/canary", "a.test?canary", "a.test#canary", "a.test@b.test", "b.test@a.test", "[a.test]", "[::1]a.test", "a.test%00", "a%2etest", "a.test\\", "a.test;b.test", "\"a.test\"", "a.test\r\n\tb.test", "a.test\rHost: b.test", "a.test\nHost: b.test",
	} {
		out = append(out, "GET /x HTTP/1.1\r\nHost: "+h+"\r\n\r\n"+canary, "GET http://a.test/x HTTP/1.1\r\nHost: "+h+"\r\n\r\n"+canary)
	}
	for _, line := range []string{"CONNECT a.test:80 HTTP/1.1", "CONNECT /canary HTTP/1.1", "CONNECT http://a.test/canary HTTP/1.1", "CONNECT a.test HTTP/1.1", "CONNECT * HTTP/1.1", "CONNECT a.test:80 HTTP/1.0", "connect a.test:80 HTTP/1.1"} {
		out = append(out, head(line, "")+canary, head(line, fmt.Sprintf("Content-Length: %d\r\n", len(canary)))+canary, head(line, "Transfer-Encoding: chunked\r\n")+"0\r\n\r\n"+canary)
	}
	return numbered("form", out)
}

// upgrades are switches of the protocol that only one reader believes in.
func upgrades() []trial {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	var out []string
	for _, fields := range []string{
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "Upgrade: h2c\r\n", "Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\n", "Upgrade: websocket\r\n", "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n", "Connection: upgrade\r\nUpgrade: TLS/1.2\r\n", "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n", "Connection: upgrade\r\nUpgrade: \r\n",
		"Connection: upgrade\r\n", "Connection: close, upgrade\r\nUpgrade: websocket\r\n",
	} {
		out = append(out,
			get(fields)+canary, get(fields)+preface+canary, post(fields+fmt.Sprintf("Content-Length: %d\r\n", len(canary)), canary), post(fields+"Transfer-Encoding: chunked\r\n", "0\r\n\r\n"+canary),
			head("GET /x HTTP/1.0", fields)+canary,
		)
	}
	out = append(out, preface+canary, "PRI * HTTP/1.1\r\nHost: a.test\r\n\r\n"+canary)
	return numbered("upgrade", out)
}

// afterErrors are requests after something that the gateway refuses, and bodies of what it refuses.
func afterErrors() []trial {
	var out []string
	for _, first := range []string{
		"GET /x HTTP/1.1\r\n\r\n", "GET  /x HTTP/1.1\r\nHost: a.test\r\n\r\n", get("X : y\r\n"), get("X: y\x00\r\n"), head("GET /x HTTP/9.9", ""), head("GET /x#y HTTP/1.1", ""), head("GET /%00 HTTP/1.1", ""), "GET /x HTTP/1.1\r\nHost: nobody.test\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 5\r\n\r\n", post("Content-Length: 99999999\r\n", ""), post("Content-Length: 99999999\r\nExpect: 100-continue\r\n", ""), post("Transfer-Encoding: chunked\r\n", "fffffff\r\n"), post("Transfer-Encoding: chunked\r\n", "x\r\n"),
		get(strings.Repeat("X: y\r\n", 300)), head("GET /"+strings.Repeat("x", 20000)+" HTTP/1.1", ""), "POST /canary HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", "POST /canary HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		get("Connection: close\r\n"), head("GET /x HTTP/1.0", ""), "HEAD /canary HTTP/1.1\r\nHost: a.test\r\n\r\n", "HEAD /x HTTP/1.1\r\nHost: nobody.test\r\n\r\n", "\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
	} {
		out = append(out, first+canary, first+canary+canary)
		if !strings.HasPrefix(first, "HEAD ") { // the reader knows only of the first request that it is one
			out = append(out, get("")+first+canary)
		}
	}
	return numbered("error", out)
}
