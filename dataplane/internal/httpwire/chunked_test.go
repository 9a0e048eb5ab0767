package httpwire_test

import (
	"fmt"
	"strings"

	"keyward.dev/dataplane/internal/httpwire"
)

// chunk is a chunk of n bytes with an extension of this length.
func chunk(n, extension int) string {
	return fmt.Sprintf("%x%s\r\n%s\r\n", n, extensionOf(extension), strings.Repeat("x", n))
}

func extensionOf(length int) string {
	if length == 0 {
		return ""
	}
	return ";" + strings.Repeat("e", length)
}

func chunkedRules() []requirement {
	const end = "0\r\n\r\n"
	return []requirement{
		{
			"9112 7.1", "a chunk is a size, CRLF, so much data, CRLF; the last has size 0",
			[]example{
				{end, ""},
				{"5\r\nhello\r\n6\r\n world\r\n" + end, "hello world"},
				{"5\r\nhello\r\n0\r\n\r\nGET /", "hello then GET /"},
				{"4\r\n\r\n\r\n\r\n" + end, "\r\n\r\n"},
				{"000\r\n\r\n", ""},
			},
			[]refusal{
				{"", httpwire.ErrIncomplete},
				{"5", httpwire.ErrIncomplete},
				{"5\r", httpwire.ErrIncomplete},
				{"5\r\n", httpwire.ErrIncomplete},
				{"5\r\nhel", httpwire.ErrIncomplete},
				{"5\r\nhello", httpwire.ErrIncomplete},
				{"5\r\nhello\r", httpwire.ErrIncomplete},
				{"5\r\nhello\r\n", httpwire.ErrIncomplete},
				{"0\r\n", httpwire.ErrIncomplete},
				{"0\r\n\r", httpwire.ErrIncomplete},
				{"5\r\nhello!\r\n" + end, httpwire.ErrChunk},
				{"5\r\nhell\r\n" + end, httpwire.ErrLineEnd},
				{"5\r\nhello" + end, httpwire.ErrChunk},
				{"5\r\nhello\r" + end, httpwire.ErrChunk},
				{"5\r\nhello\n" + end, httpwire.ErrLineEnd},
				{"5\nhello\r\n" + end, httpwire.ErrLineEnd},
				{"5\rhello\r\n" + end, httpwire.ErrChunk},
				{"5\r\r\nhello\r\n" + end, httpwire.ErrChunk},
				{"0\n\r\n", httpwire.ErrLineEnd},
				{"0\r\n\n", httpwire.ErrLineEnd},
			},
		},
		{
			"9112 7.1", "a size is hexadecimal digits only; one that is too large to count is refused",
			[]example{
				{"A\r\n0123456789\r\n00b\r\n01234567890\r\n" + end, "012345678901234567890"},
				{"00000000000000f\r\n012345678901234\r\n" + end, "012345678901234"},
				{"1\r\na\r\n000000000000001\r\nb\r\n" + end, "ab"},
			},
			[]refusal{
				{"\r\n", httpwire.ErrChunk},
				{"\n", httpwire.ErrChunk},
				{";a\r\n", httpwire.ErrChunk},
				{"g\r\n", httpwire.ErrChunk},
				{"G\r\n", httpwire.ErrChunk},
				{"`\r\n", httpwire.ErrChunk},
				{"@\r\n", httpwire.ErrChunk},
				{"0x5\r\nhello\r\n", httpwire.ErrChunk},
				{"+5\r\nhello\r\n", httpwire.ErrChunk},
				{"-5\r\nhello\r\n", httpwire.ErrChunk},
				{" 5\r\nhello\r\n", httpwire.ErrChunk},
				{"5 \r\nhello\r\n", httpwire.ErrChunk},
				{"5\t\r\nhello\r\n", httpwire.ErrChunk},
				{"5,\r\nhello\r\n", httpwire.ErrChunk},
				{"5 ;a\r\nhello\r\n", httpwire.ErrChunk},
				{"5\x00\r\nhello\r\n", httpwire.ErrChunk},
				{"0000000000000005\r\nhello\r\n", httpwire.ErrChunk},
				{"ffffffffffffffff5\r\nhello\r\n", httpwire.ErrChunk},
				{"1\r\na\r\n\r\n", httpwire.ErrChunk},
				{"1\r\na\r\ng\r\n", httpwire.ErrChunk},
			},
		},
		{
			"9112 7.1.1", "extensions are dropped; their length is bounded, for they carry nothing",
			[]example{
				{"5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n", "hello"},
				{"5;\t ~\r\nhello\r\n" + end, "hello"},
				{chunk(1, 512) + end, "x"},
				{strings.Repeat(chunk(1, 512), 32) + chunk(16, 16) + end, strings.Repeat("x", 48)},
				{strings.Repeat(chunk(1, 512), 32) + chunk(1, 32) + end, strings.Repeat("x", 33)},
				{strings.Repeat(chunk(512, 512), 40) + end, strings.Repeat("x", 40*512)},
				{chunk(20<<10, 0) + strings.Repeat(chunk(1, 512), 32) + end, strings.Repeat("x", 20<<10+32)},
			},
			[]refusal{
				{"5;a\x00\r\nhello\r\n", httpwire.ErrChunk},
				{"5;a\x7f\r\nhello\r\n", httpwire.ErrChunk},
				{"5;a\x1f\r\nhello\r\n", httpwire.ErrChunk},
				{"5;a\xe9\r\nhello\r\n", httpwire.ErrChunk},
				{"5;a\rb\r\nhello\r\n", httpwire.ErrChunk},
				{"5;a\nhello\r\n", httpwire.ErrLineEnd},
				{chunk(1, 513), httpwire.ErrChunk},
				{"5;" + strings.Repeat("a", 600), httpwire.ErrChunk},
				{strings.Repeat(chunk(1, 512), 32) + chunk(16, 17), httpwire.ErrIncomplete},
				{strings.Repeat(chunk(1, 512), 32) + chunk(1, 33), httpwire.ErrChunk},
				{chunk(20<<10, 0) + strings.Repeat(chunk(1, 512), 34), httpwire.ErrChunk},
			},
		},
	}
}

func trailerRules() []requirement {
	// lines are n fields of 1000 bytes each with their line ends.
	lines := func(n int) string { return strings.Repeat("X: "+strings.Repeat("a", 995)+"\r\n", n) }
	shown := func(n int) string { return strings.Repeat(" | X="+strings.Repeat("a", 995), n) }
	rest := strings.Repeat("b", 16<<10-16*1000-len("Y: \r\n\r\n"))
	forbidden := func(names ...string) (refused []refusal) {
		for _, n := range names {
			refused = append(refused, refusal{"0\r\n" + n + ": 1\r\n\r\n", httpwire.ErrTrailerName},
				refusal{"0\r\nX: 1\r\n" + strings.ToUpper(n) + ": 1\r\n\r\n", httpwire.ErrTrailerName},
				refusal{"0\r\n" + strings.ToLower(n) + ":\r\n\r\n", httpwire.ErrTrailerName})
		}
		return refused
	}
	return []requirement{
		{
			"9112 7.1.2", "a trailer has field lines like a header, and ends with an empty line",
			[]example{
				{"1\r\nx\r\n0\r\nX-Sum: 1\r\ny:\t2 \r\n\r\nrest", "x | X-Sum=1 | y=2 then rest"},
				{"0\r\nX:\r\nX: a\r\n\r\n", " | X= | X=a"},
			},
			[]refusal{
				{"0\r\nX : 1\r\n\r\n", httpwire.ErrFieldName},
				{"0\r\nX\r\n\r\n", httpwire.ErrFieldName},
				{"0\r\n: 1\r\n\r\n", httpwire.ErrFieldName},
				{"0\r\nX: 1\r\n 2\r\n\r\n", httpwire.ErrFieldFold},
				{"0\r\n X: 1\r\n\r\n", httpwire.ErrFieldFold},
				{"0\r\nX: 1\n\r\n", httpwire.ErrLineEnd},
				{"0\r\nX: 1\r\n\n", httpwire.ErrLineEnd},
				{"0\r\nX: 1\rY: 2\r\n\r\n", httpwire.ErrFieldValue},
				{"0\r\nX: 1\x00\r\n\r\n", httpwire.ErrFieldValue},
				{"0\r\n\r\r\n", httpwire.ErrFieldName},
				{"0\r\nX: 1\r\n", httpwire.ErrIncomplete},
				{"0\r\nX: 1\r\n\r", httpwire.ErrIncomplete},
				{"0\r\nX: 1", httpwire.ErrIncomplete},
			},
		},
		{
			"9110 6.5.1", "no field in a trailer that decides about framing, routing, control, authentication or format",
			[]example{
				{"0\r\nGrpc-Status: 0\r\nServer-Timing: a\r\nETag: b\r\n\r\n", " | Grpc-Status=0 | Server-Timing=a | ETag=b"},
				{"0\r\nContent-MD5: a\r\nContent-Digest: b\r\nDigest: c\r\n\r\n", " | Content-MD5=a | Content-Digest=b | Digest=c"},
				{"0\r\nX-Forwarded: a\r\nIf: b\r\nContent: c\r\nHosts: d\r\n\r\n", " | X-Forwarded=a | If=b | Content=c | Hosts=d"},
			},
			forbidden("Transfer-Encoding", "Content-Length", "Trailer", "TE", "Connection", "Keep-Alive", "Upgrade",
				"Proxy-Connection", "HTTP2-Settings", "Proxy-Authenticate", "Proxy-Authorization",
				"Host", "Forwarded", "X-Forwarded-For", "X-Forwarded-Anything", "X-Forwarded-", "X-Real-IP",
				"Cache-Control", "Expect", "Max-Forwards", "Pragma", "Range", "If-Match", "If-Range", "If-",
				"Authorization", "Cookie", "Set-Cookie", "WWW-Authenticate",
				"Content-Encoding", "Content-Type", "Content-Range", "Content-Anything", "Content-",
				"Age", "Date", "Expires", "Location", "Retry-After", "Vary", "Warning"),
		},
		{
			"Limit", "a trailer is bounded in length and fields",
			[]example{
				{"0\r\n" + lines(16) + "Y: " + rest + "\r\n\r\n", shown(16) + " | Y=" + rest},
				{"0\r\n" + strings.Repeat("X: a\r\n", 64) + "\r\n", strings.Repeat(" | X=a", 64)},
			},
			[]refusal{
				{"0\r\n" + lines(16) + "Y: " + rest + "b\r\n\r\n", httpwire.ErrTrailerLong},
				{"0\r\n" + lines(20), httpwire.ErrTrailerLong},
				{"0\r\nX: " + strings.Repeat("a", 17<<10), httpwire.ErrTrailerLong},
				{"0\r\n" + strings.Repeat("X: a\r\n", 65) + "\r\n", httpwire.ErrManyFields},
			},
		},
	}
}
