package server

import (
	"net/http"
	"net/netip"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
)

// fill writes down the request as it was received. Everything it takes has been checked for form by net/http: method,
// field names and values, framing.
func (c *call) fill(r *http.Request) {
	x := &c.x
	q := &x.Request
	q.Method = c.copy(r.Method)
	q.RawTarget = c.copy(r.RequestURI)
	q.Proto = r.ProtoMajor*10 + r.ProtoMinor
	q.TLS = c.tls
	q.Scheme = "http"
	if q.TLS {
		q.Scheme = "https"
	}
	q.ContentLength = r.ContentLength
	q.RemoteAddr, _ = netip.ParseAddrPort(r.RemoteAddr)
	c.headBytes = len(r.Method) + len(r.RequestURI) + len(r.Host) + len(" HTTP/1.1\r\nHost: \r\n\r\n")
	for name, values := range r.Header {
		for _, v := range values {
			c.headBytes += len(name) + len(v) + len(": \r\n")
			c.headFields++
			q.Header.Add(exchange.Header{Name: c.copy(name), Value: c.copy(v)})
		}
	}
}

func (c *call) copy(s string) []byte { return append(c.x.Alloc(len(s)), s...) }

// originForm returns the target without what an absolute form puts before the path. The authority of an absolute form is
// the host (RFC 9112 section 3.2.2); net/http has taken it as such.
func originForm(target string) (string, bool) {
	if strings.HasPrefix(target, "/") {
		return target, true
	}
	lower := strings.ToLower(target[:min(len(target), 8)])
	for _, scheme := range []string{"http://", "https://"} {
		if !strings.HasPrefix(lower, scheme) {
			continue
		}
		rest := target[len(scheme):]
		i := strings.IndexAny(rest, "/?")
		switch {
		case i < 0:
			return "/", true
		case rest[i] == '?':
			return "/" + rest[i:], true
		}
		return rest[i:], true
	}
	return "", false
}

// hopByHop are fields that concern one connection only (RFC 9110 section 7.6.1), beside those that Connection names.
func hopByHop(name []byte) bool {
	switch len(name) {
	case 2:
		return exchange.EqualFold(name, "TE")
	case 7:
		return exchange.EqualFold(name, "Trailer") || exchange.EqualFold(name, "Upgrade")
	case 10:
		return exchange.EqualFold(name, "Connection") || exchange.EqualFold(name, "Keep-Alive")
	case 16:
		return exchange.EqualFold(name, "Proxy-Connection")
	case 17:
		return exchange.EqualFold(name, "Transfer-Encoding")
	case 18:
		return exchange.EqualFold(name, "Proxy-Authenticate")
	case 19:
		return exchange.EqualFold(name, "Proxy-Authorization")
	}
	return false
}

// dropHopByHop removes what is not to be passed on. A Connection field may name any field: removing them before policies
// run makes sure that what policies saw is what is forwarded.
func dropHopByHop(h *exchange.Headers) {
	var named []string
	for v := range h.Values("Connection") {
		for token := range strings.SplitSeq(string(v), ",") {
			if token = strings.TrimSpace(token); token != "" {
				named = append(named, token)
			}
		}
	}
	for i := 0; i < len(*h); {
		if hopByHop((*h)[i].Name) {
			h.DelAt(i)
			continue
		}
		i++
	}
	for _, n := range named {
		if !strings.EqualFold(n, "Content-Length") && !strings.EqualFold(n, "Host") {
			h.Del(n)
		}
	}
}
