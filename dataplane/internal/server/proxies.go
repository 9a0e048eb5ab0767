package server

import (
	"net/netip"
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
)

// clientAddress finds out who the client is: the peer, or the right-most address of X-Forwarded-For that is no trusted
// proxy, if the peer is one. A trusted proxy also says how the client came.
func (c *call) clientAddress(s *runtime.Settings) {
	q := &c.x.Request
	peer := q.RemoteAddr.Addr().Unmap().WithZone("")
	q.ClientIP = peer
	c.trusted = peer.IsValid() && s.Trusted(peer)
	if !c.trusted {
		return
	}
	if v := q.Header.Get("X-Forwarded-Proto"); exchange.EqualFold(v, "https") || exchange.EqualFold(v, "http") {
		q.Scheme = strings.ToLower(string(v))
	}
	for _, f := range slices.Backward(q.Header) {
		if !exchange.EqualFold(f.Name, "X-Forwarded-For") {
			continue
		}
		list := string(f.Value)
		for more := true; more; {
			var element string
			list, element, more = cutLast(list)
			addr, ok := forwardedAddress(element)
			if !ok {
				return // what is left of an unreadable element was written by whoever wrote that
			}
			q.ClientIP = addr
			if !s.Trusted(addr) {
				return
			}
		}
	}
}

func cutLast(list string) (rest, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", strings.TrimSpace(list), false
	}
	return list[:i], strings.TrimSpace(list[i+1:]), true
}

// forwardedAddress reads an element of X-Forwarded-For; some proxies add a port.
func forwardedAddress(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// announce sets the fields that tell the upstream where the request came from. What an untrusted peer claims is removed.
func (c *call) announce() {
	q := &c.x.Request
	h := &q.Header
	peer := q.RemoteAddr.Addr().Unmap().WithZone("").String()
	forwardedFor, via := peer, "1.1 keyward"
	if q.Proto == 20 {
		via = "2.0 keyward"
	}
	if !c.trusted {
		for i := 0; i < len(*h); {
			if claimsOrigin((*h)[i].Name) {
				h.DelAt(i)
				continue
			}
			i++
		}
	}
	if have := joined(*h, "X-Forwarded-For"); have != "" {
		forwardedFor = have + ", " + peer
	}
	if have := joined(*h, "Via"); have != "" {
		via = have + ", " + via
	}
	h.Set(exchange.Field("X-Forwarded-For", forwardedFor))
	h.Set(exchange.Field("Via", via))
	if !h.Has("X-Forwarded-Proto") {
		h.Set(exchange.Field("X-Forwarded-Proto", q.Scheme))
	}
	if !h.Has("X-Forwarded-Host") {
		h.Set(exchange.Field("X-Forwarded-Host", c.r.Host))
	}
}

// claimsOrigin says whether a field tells where a request came from.
func claimsOrigin(name []byte) bool {
	const prefix = "X-Forwarded-"
	return exchange.EqualFold(name, "Forwarded") || exchange.EqualFold(name, "X-Real-Ip") ||
		len(name) >= len(prefix) && exchange.EqualFold(name[:len(prefix)], prefix)
}

func joined(h exchange.Headers, name string) string {
	var all []string
	for v := range h.Values(name) {
		all = append(all, string(v))
	}
	return strings.Join(all, ", ")
}
