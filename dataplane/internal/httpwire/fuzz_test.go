package httpwire_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// seed calls add with all that the conformance table has for these parts.
func seed(add func(in string), parts ...[]requirement) {
	for _, part := range parts {
		for _, r := range part {
			for _, e := range r.accept {
				add(e.in)
			}
			for _, e := range r.refuse {
				add(e.in)
			}
		}
	}
}

// FuzzParseHead holds the parser against net/http: what it accepts net/http accepts too, with the same meaning. What it
// accepts is the same when it was written again, and incomplete while a part is missing.
func FuzzParseHead(f *testing.F) {
	seed(func(in string) {
		if len(in) < 1<<10 {
			f.Add([]byte(in), uint16(len(in)/2))
		}
	}, requestLineRules(), targetRules(), fieldRules(), requestRules())
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		var h, again httpwire.Head
		n, err := httpwire.ParseHead(bytes.Clone(in), &h, limits)
		if err != nil {
			return
		}
		endsWhere(t, in, n, int(cut))
		if _, err := httpwire.ParseHead(in[:int(cut)%n], &again, limits); !isIncomplete(err) {
			t.Errorf("%d bytes of %q: %v, want ErrIncomplete", int(cut)%n, in, err)
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			t.Fatalf("accepted %q, net/http says %v", in[:n], err)
		}
		compare(t, &h, req)
		if h.Minor == 0 {
			return
		}
		out := appendFields(httpwire.AppendRequestLine(nil, h.Method, h.Target), h.Fields)
		roomy := limits
		roomy.Head = len(out) // it has spaces that were not there
		if m, err := httpwire.ParseHead(out, &again, roomy); err != nil || m != len(out) || describe(&again) != describe(&h) {
			t.Errorf("%q was written as %q, which is %s, %v", in[:n], out, describe(&again), err)
		}
	})
}

func isIncomplete(err error) bool { return err == httpwire.ErrIncomplete } //nolint:errorlint // must not be wrapped

func appendFields(b []byte, hs exchange.Headers) []byte {
	for _, f := range hs {
		b = httpwire.AppendField(b, f.Name, f.Value)
	}
	return append(b, "\r\n"...)
}

// endsWhere holds HeadEnd against the parser, also if the head comes in two parts.
func endsWhere(t *testing.T, in []byte, n, cut int) {
	t.Helper()
	length, from := httpwire.HeadEnd(in[:cut%n], 0)
	if length != 0 {
		t.Errorf("%q ends at %d in a part, want not", in, length)
	}
	if length, _ = httpwire.HeadEnd(in, from); length != n {
		t.Errorf("%q ends at %d, want %d", in, length, n)
	}
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
	compareFields(t, h.Fields, req.Header)
}

// compareFields leaves out those that net/http takes out of the header.
func compareFields(t *testing.T, hs exchange.Headers, other http.Header) {
	t.Helper()
	want := http.Header{}
	for _, f := range hs {
		switch k := textproto.CanonicalMIMEHeaderKey(string(f.Name)); k {
		case "Host", "Transfer-Encoding", "Trailer", "Content-Length", "Connection":
		default:
			want[k] = append(want[k], string(f.Value))
		}
	}
	for k, v := range want {
		if !slices.Equal(other[k], v) {
			t.Errorf("%s: %q, net/http has %q", k, v, other[k])
		}
	}
}

// FuzzParseResponseHead holds the parser of responses against net/http in the same way.
func FuzzParseResponseHead(f *testing.F) {
	seed(func(in string) {
		if len(in) < 1<<10 {
			f.Add([]byte(in), uint16(len(in)/2))
		}
	}, responseRules())
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		var h, again httpwire.ResponseHead
		n, err := httpwire.ParseResponseHead(bytes.Clone(in), &h, limits)
		if err != nil {
			return
		}
		endsWhere(t, in, n, int(cut))
		if _, err := httpwire.ParseResponseHead(in[:int(cut)%n], &again, limits); !isIncomplete(err) {
			t.Errorf("%d bytes of %q: %v, want ErrIncomplete", int(cut)%n, in, err)
		}
		for _, method := range []string{"GET", "HEAD"} {
			resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: method})
			if err != nil {
				t.Fatalf("accepted %q, net/http says %v", in[:n], err)
			}
			compareResponse(t, &h, resp, method)
		}
		if h.Minor == 0 {
			return
		}
		h.Reason = nil // is not written
		out := appendFields(httpwire.AppendStatusLine(nil, h.Status), h.Fields)
		roomy := limits
		roomy.Head = len(out)
		m, err := httpwire.ParseResponseHead(out, &again, roomy)
		again.Reason = nil
		if err != nil || m != len(out) || describeResponse(&again) != describeResponse(&h) {
			t.Errorf("%q was written as %q, which is %s, %v", in[:n], out, describeResponse(&again), err)
		}
	})
}

func compareResponse(t *testing.T, h *httpwire.ResponseHead, resp *http.Response, method string) {
	t.Helper()
	framing := h.Framing([]byte(method))
	if h.Status != resp.StatusCode || (h.Close || framing == httpwire.UntilClose) != resp.Close {
		t.Errorf("status %d close %v framing %d, net/http has %d %v", h.Status, h.Close, framing, resp.StatusCode, resp.Close)
	}
	chunked, none := len(resp.TransferEncoding) > 0, resp.Body == http.NoBody
	switch framing {
	case httpwire.NoBody:
		if !none && h.Status != http.StatusSwitchingProtocols {
			t.Errorf("status %d to %s has no body, in net/http it has", h.Status, method)
		}
	case httpwire.ByLength:
		if none != (h.ContentLength == 0) || resp.ContentLength != h.ContentLength {
			t.Errorf("length is %d, in net/http %d", h.ContentLength, resp.ContentLength)
		}
	case httpwire.ByChunks, httpwire.UntilClose:
		if chunked != (framing == httpwire.ByChunks) || resp.ContentLength != -1 || none {
			t.Errorf("framing is %d, in net/http chunked %v, length %d", framing, chunked, resp.ContentLength)
		}
	}
	compareFields(t, h.Fields, resp.Header)
}

// FuzzChunks holds the decoder against net/http's: a body it accepts has the same data there. How it arrives makes no
// difference, and it is the same when it was written again.
func FuzzChunks(f *testing.F) {
	seed(func(in string) {
		if len(in) < 1<<10 {
			f.Add([]byte(in), uint8(3))
		}
	}, chunkedRules(), trailerRules())
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var c httpwire.Chunks
		data, rest, err := decodeAll(&c, in, max(1, len(in)))
		shown := c.Trailer()
		var slowly httpwire.Chunks
		slow, slowRest, slowErr := decodeAll(&slowly, in, max(1, int(size)))
		if err != slowErr || err == nil && (!bytes.Equal(data, slow) || !bytes.Equal(rest, slowRest) || !slices.EqualFunc(shown, slowly.Trailer(), sameField)) { //nolint:errorlint // must not be wrapped
			t.Fatalf("at once: %q %v; in pieces of %d: %q %v", data, err, size, slow, slowErr)
		}
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in)))
		if err != nil || !bytes.Equal(data, want) {
			t.Errorf("accepted %q as %q, net/http has %q, %v", in, data, want, err)
		}
		var out []byte
		for piece := range slices.Chunk(data, max(1, int(size))) {
			out = httpwire.AppendChunk(out, piece)
		}
		out = httpwire.AppendLastChunk(out, shown)
		again, rest, err := decodeAll(&slowly, out, len(out))
		if err != nil || len(rest) > 0 || !bytes.Equal(again, data) || !slices.EqualFunc(shown, slowly.Trailer(), sameField) {
			t.Errorf("%q was written as %q, which is %q, %v", in, out, again, err)
		}
	})
}

func sameField(a, b exchange.Header) bool {
	return bytes.Equal(a.Name, b.Name) && bytes.Equal(a.Value, b.Value)
}

func decodeAll(c *httpwire.Chunks, in []byte, size int) (data, rest []byte, err error) {
	c.Reset()
	for rest = in; !c.Done(); {
		d, n, err := c.Next(rest[:min(size, len(rest))])
		if err != nil {
			return data, nil, err
		}
		data, rest = append(data, d...), rest[n:]
	}
	return data, rest, nil
}

// FuzzHost holds hosts against net/netip, which knows addresses.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"::", "::1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1::2::3", "fe80::1%a", "1.2.3.4", "1:2:3:4:5:6:7::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		var h httpwire.Head
		_, err := httpwire.ParseHead([]byte(wire("GET / HTTP/1.1", "Host: ["+address+"]")), &h, limits)
		a, addrErr := netip.ParseAddr(address)
		if want := addrErr == nil && a.Is6() && a.Zone() == ""; (err == nil) != want {
			t.Errorf("[%s]: %v, net/netip has %v, %v", address, err, a, addrErr)
		}
	})
}

// FuzzDropHopByHop holds it against a plain way to do the same.
func FuzzDropHopByHop(f *testing.F) {
	f.Add("Connection: a, b\na: 1\nc: 2\nB: 3\nconnection: C")
	f.Add("TE: x\nUpgrade: y\nConnection: close, Host\nHost: a")
	f.Fuzz(func(t *testing.T, in string) {
		hs := headers(strings.Split(in, "\n")...)
		var want []string
		drop := map[string]bool{"connection": true}
		for _, name := range []string{
			"Keep-Alive", "TE", "Upgrade", "Transfer-Encoding", "HTTP2-Settings", "Proxy-Connection",
			"Proxy-Authenticate", "Proxy-Authorization",
		} {
			drop[strings.ToLower(name)] = true
		}
		for v := range hs.Values("Connection") {
			for option := range strings.SplitSeq(string(v), ",") {
				option = asciiLower(strings.Trim(option, " \t"))
				if !slices.Contains([]string{"", "host", "content-length", "forwarded", "x-real-ip"}, option) && !strings.HasPrefix(option, "x-forwarded-") {
					drop[option] = true
				}
			}
		}
		for _, f := range hs {
			if len(f.Name) == 0 {
				return // there are none
			}
			if !drop[asciiLower(string(f.Name))] {
				want = append(want, string(f.Name)+": "+string(f.Value))
			}
		}
		httpwire.DropHopByHop(&hs)
		if got := lines(hs); !slices.Equal(got, want) {
			t.Errorf("%q without hop-by-hop fields is %q, want %q", in, got, want)
		}
	})
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
