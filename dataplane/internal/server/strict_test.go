package server

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// scripted is a connection that delivers what a reader has.
type scripted struct {
	net.Conn
	io.Reader
}

// Read reads from the reader.
func (s scripted) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// TestStrictConnHandsOnWholeMessages holds that the pieces in which bytes arrive make no difference.
func TestStrictConnHandsOnWholeMessages(t *testing.T) {
	t.Parallel()
	const (
		get     = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"
		post    = "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
		chunked = "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: v\r\n\r\n"
	)
	tests := []struct {
		name, in, want string
		err            error
	}{
		{name: "messages in a row", in: get + post + chunked + get, want: get + post + chunked + get, err: io.EOF},
		{name: "empty lines before a message", in: "\r\n\r\n" + get + "\r\n" + post, want: get + post, err: io.EOF},
		{name: "half a head", in: get + "GET /x HT", want: get, err: io.EOF},
		{name: "a bad head after a good message", in: post + "GET /x HTTP/1.1\nHost: a.test\n\n" + get, want: post + refusedHead(nil), err: io.EOF},
		{name: "length and chunks", in: strings.Replace(post, "Content", "Transfer-Encoding: chunked\r\nContent", 1) + get, want: refusedHead(nil), err: io.EOF},
		{
			name: "a bad chunk", in: "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n" + get,
			want: "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel", err: errMalformedBody,
		},
		{name: "a head without an end", in: "GET /x HTTP/1.1\r\nX-A: " + strings.Repeat("x", maxHeadBytes), want: refusedHead(nil), err: io.EOF},
	}
	readers := map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "halves": iotest.HalfReader,
	}
	for _, tt := range tests {
		for how, slice := range readers {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				t.Parallel()
				c := &strictConn{Conn: scripted{Reader: slice(strings.NewReader(tt.in))}}
				var got strings.Builder
				var err error
				for p := make([]byte, 7); err == nil; {
					var n int
					n, err = c.Read(p)
					got.Write(p[:n])
				}
				if diff := cmp.Diff(tt.want, got.String()); diff != "" || !errors.Is(err, tt.err) {
					t.Errorf("read ended with %v, want %v (-want +got):\n%s", err, tt.err, diff)
				}
			})
		}
	}
}
