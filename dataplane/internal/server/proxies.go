package server

import (
	"bytes"
	"net/netip"
	"slices"

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
	switch v := q.Header.Get("X-Forwarded-Proto"); {
	case exchange.EqualFold(v, "https"):
		q.Scheme = "https"
	case exchange.EqualFold(v, "http"):
		q.Scheme = "http"
	}
	for _, f := range slices.Backward(q.Header) {
		if !exchange.EqualFold(f.Name, "X-Forwarded-For") {
			continue
		}
		list := f.Value
		for more := true; more; {
			var element []byte
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

func cutLast(list []byte) (rest, last []byte, more bool) {
	i := bytes.LastIndexByte(list, ',')
	if i < 0 {
		return nil, bytes.TrimSpace(list), false
	}
	return list[:i], bytes.TrimSpace(list[i+1:]), true
}

// forwardedAddress reads an element of X-Forwarded-For; some proxies add a port.
func forwardedAddress(b []byte) (netip.Addr, bool) {
	s := string(b)
	if len(s) > 1 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	if a, err := netip.ParseAddr(s); err == nil {
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
	if !c.trusted {
		dropClaims(h)
	}
	c.showCertificate()
	if !c.route.Service.HideIdentity {
		c.rt.Settings.CallerFields.Add(&c.x)
	}
	via := "1.1 keyward"
	switch q.Proto {
	case 10:
		via = "1.0 keyward"
	case 20:
		via = "2.0 keyward"
	}
	c.extend("X-Forwarded-For", c.peer)
	c.extend("Via", c.copy(via))
	if !h.Has("X-Forwarded-Proto") {
		h.Add(c.field("X-Forwarded-Proto", q.Scheme))
	}
	if !h.Has("X-Forwarded-Host") {
		h.Add(exchange.Header{Name: c.copy("X-Forwarded-Host"), Value: c.host})
	}
}

// showCertificate tells a service that wants to know the certificate by which the client was let in (RFC 9440). One that was
// shown and that nobody vouched for it is not told: it would take it for good.
func (c *call) showCertificate() {
	if !c.route.Service.ForwardCertificate {
		return
	}
	h := &c.x.Request.Header
	h.Del(certificateField)
	h.Del(certificateChainField)
	bound := slices.ContainsFunc(c.x.Proofs, func(p *exchange.Principal) bool { return p.Bound() != "" })
	if c.route.Demand == nil && len(c.x.Vouched) == 0 && !bound {
		return
	}
	if value := c.secure.Field(); value != nil {
		h.Add(exchange.Header{Name: c.copy(certificateField), Value: value})
	}
}

// The fields of RFC 9440.
const (
	certificateField      = "Client-Cert"
	certificateChainField = "Client-Cert-Chain"
)

// extend puts a value at the end of a list that proxies add to, in one field.
func (c *call) extend(name string, value []byte) {
	h := &c.x.Request.Header
	if !h.Has(name) {
		h.Add(exchange.Header{Name: c.copy(name), Value: value})
		return
	}
	n := len(value)
	for v := range h.Values(name) {
		n += len(v) + len(", ")
	}
	list := c.x.Alloc(n)
	for v := range h.Values(name) {
		list = append(append(list, v...), ", "...)
	}
	h.Set(exchange.Header{Name: c.copy(name), Value: append(list, value...)})
}

// dropClaims removes the fields that say where a request came from, and from whom.
func dropClaims(h *exchange.Headers) {
	kept := (*h)[:0]
	for _, f := range *h {
		if !claimsOrigin(f.Name) {
			kept = append(kept, f)
		}
	}
	clear((*h)[len(kept):])
	*h = kept
}

// claimsOrigin says whether a field tells where a request came from, or from whom.
func claimsOrigin(name []byte) bool {
	const prefix = "X-Forwarded-"
	switch len(name) {
	case 0:
		return false
	case len("Forwarded"): // and X-Real-Ip
		return exchange.EqualFold(name, "Forwarded") || exchange.EqualFold(name, "X-Real-Ip")
	case len(certificateField):
		return exchange.EqualFold(name, certificateField)
	case len(certificateChainField): // and X-Forwarded-Proto
		if exchange.EqualFold(name, certificateChainField) {
			return true
		}
	}
	return len(name) >= len(prefix) && name[0]|0x20 == 'x' && exchange.EqualFold(name[:len(prefix)], prefix)
}
