package httpwire_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"testing"

	"keyward.dev/dataplane/internal/httpwire"
)

// FuzzParseHead holds the parser against net/http: what it accepts net/http accepts too, with the same meaning.
func FuzzParseHead(f *testing.F) {
	for _, s := range []string{
		wire("GET / HTTP/1.1", "Host: a"), wire("POST /a?b HTTP/1.1", "Host: a:80", "Content-Length: 3") + "abc",
		wire("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), wire("GET http://a/b HTTP/1.1", "Host: a"),
		wire("CONNECT a:443 HTTP/1.1", "Host: a:443"), wire("OPTIONS * HTTP/1.1", "Host: a"), wire("GET / HTTP/1.0"),
		wire("GET / HTTP/1.1", "Host: a", "X: 1", "x: 2", "Trailer: A"), "GET / HTTP/1.1\nHost: a\n\n",
		wire("GET / HTTP/1.1", "Host: [::1]:1", "Connection: close, x", "X:\ta \t"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var h httpwire.Head
		n, err := httpwire.ParseHead(bytes.Clone(in), &h, limits)
		if err != nil {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			t.Fatalf("accepted %q, net/http says %v", in[:n], err)
		}
		compare(t, &h, req)
	})
}

func compare(t *testing.T, h *httpwire.Head, req *http.Request) {
	t.Helper()
	if string(h.Method) != req.Method || string(h.Target) != req.RequestURI || !bytes.EqualFold(h.Host, []byte(req.Host)) {
		t.Errorf("%s %s at %s, net/http has %s %s at %s", h.Method, h.Target, h.Host, req.Method, req.RequestURI, req.Host)
	}
	if h.Path != nil {
		path, err := url.PathUnescape(string(h.Path))
		if err != nil || path != req.URL.Path || string(h.Query) != req.URL.RawQuery {
			t.Errorf("path %q query %q, net/http has %q %q", h.Path, h.Query, req.URL.Path, req.URL.RawQuery)
		}
	}
	chunked := len(req.TransferEncoding) > 0
	if h.Chunked != chunked || !chunked && h.ContentLength != req.ContentLength || h.Close != req.Close {
		t.Errorf("chunked %v length %d close %v, net/http has %v %d %v", h.Chunked, h.ContentLength, h.Close, chunked, req.ContentLength, req.Close)
	}
	want := map[string][]string{}
	for _, f := range h.Fields {
		switch k := textproto.CanonicalMIMEHeaderKey(string(f.Name)); k {
		case "Host", "Transfer-Encoding", "Trailer":
		default:
			want[k] = append(want[k], string(f.Value))
		}
	}
	for k, v := range want {
		if got := req.Header[k]; len(got) != len(v) {
			t.Errorf("%s: %q, net/http has %q", k, v, got)
			continue
		}
		for i := range v {
			if req.Header[k][i] != v[i] {
				t.Errorf("%s: %q, net/http has %q", k, v, req.Header[k])
			}
		}
	}
}

// FuzzChunks holds the decoder against net/http's: a body it accepts has the same data there. How it arrives makes no
// difference.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\nx", "5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "1\nx\n0\n\n"} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		data, rest, err := decode(bytes.Clone(in), max(1, len(in)))
		slow, slowRest, slowErr := decode(bytes.Clone(in), max(1, int(piece)))
		if (err == nil) != (slowErr == nil) || err == nil && (!bytes.Equal(data, slow) || !bytes.Equal(rest, slowRest)) {
			t.Fatalf("at once: %q %v; in pieces of %d: %q %v", data, err, piece, slow, slowErr)
		}
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in)))
		if err != nil || !bytes.Equal(data, want) {
			t.Errorf("accepted %q as %q, net/http has %q, %v", in, data, want, err)
		}
	})
}
