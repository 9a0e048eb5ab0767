package httpwire

import "keyward.dev/dataplane/internal/exchange"

// DropHopByHop removes what concerns one connection only, in either direction: the fields that Connection names, and those
// that are known to (RFC 9110 section 7.6.1). Doing so before policies run makes sure that what they see is what is
// forwarded.
func DropHopByHop(h *exchange.Headers) {
	hs := *h
	for i := range hs {
		if exchange.EqualFold(hs[i].Name, "Connection") {
			unnameOptions(hs, hs[i].Value)
		}
	}
	kept := 0
	for i := range hs {
		if hs[i].Name != nil && !hopByHop(hs[i].Name) {
			hs[kept] = hs[i]
			kept++
		}
	}
	clear(hs[kept:])
	*h = hs[:kept]
}

// unnameOptions takes away the names of the fields that are connection options: they are to be dropped, but all has to
// stay in its place until every Connection field was read.
func unnameOptions(hs exchange.Headers, options []byte) {
	for len(options) > 0 {
		var option []byte
		option, options = cutElement(options)
		if endToEnd(option) || hopByHop(option) {
			continue // hop-by-hop fields are dropped anyway, and Connection has to be found until then
		}
		for i := range hs {
			if sameName(hs[i].Name, option) {
				hs[i].Name = nil
			}
		}
	}
}

// endToEnd are fields that stay whatever Connection says: without them the message would be another one, or would seem to
// come from somebody else.
func endToEnd(name []byte) bool {
	switch len(name) {
	case len("Host"):
		return exchange.EqualFold(name, "Host")
	case len("Forwarded"): // and X-Real-IP
		return exchange.EqualFold(name, "Forwarded") || exchange.EqualFold(name, "X-Real-IP")
	case len("Content-Length"):
		if exchange.EqualFold(name, "Content-Length") {
			return true
		}
	}
	return hasPrefix(name, "X-Forwarded-")
}

// hopByHop are fields that concern one connection only. Trailer is none (RFC 9110 section 6.6.2): trailers are passed on, and
// there are servers that take none that was not announced.
func hopByHop(name []byte) bool {
	switch len(name) {
	case len("TE"):
		return exchange.EqualFold(name, "TE")
	case len("Upgrade"):
		return exchange.EqualFold(name, "Upgrade")
	case len("Connection"): // and Keep-Alive
		return exchange.EqualFold(name, "Connection") || exchange.EqualFold(name, "Keep-Alive")
	case len("HTTP2-Settings"):
		return exchange.EqualFold(name, "HTTP2-Settings")
	case len("Proxy-Connection"):
		return exchange.EqualFold(name, "Proxy-Connection")
	case len("Transfer-Encoding"):
		return exchange.EqualFold(name, "Transfer-Encoding")
	case len("Proxy-Authenticate"):
		return exchange.EqualFold(name, "Proxy-Authenticate")
	case len("Proxy-Authorization"):
		return exchange.EqualFold(name, "Proxy-Authorization")
	}
	return false
}

// ValidTrailerName says whether a field of this name may be in a trailer. What decides about framing, routing, control,
// authentication or the content's format may not (RFC 9110 section 6.5.1): a recipient that merges the trailer into the
// header would be deceived, after all checks of the header.
func ValidTrailerName(name []byte) bool {
	if !isToken(name) || hopByHop(name) || hasPrefix(name, "If-") || hasPrefix(name, "X-Forwarded-") {
		return false
	}
	if hasPrefix(name, "Content-") { // digests are what trailers are for
		return exchange.EqualFold(name, "Content-Digest") || exchange.EqualFold(name, "Content-MD5")
	}
	for _, forbidden := range headerOnly {
		if exchange.EqualFold(name, forbidden) {
			return false
		}
	}
	return true
}

// headerOnly are fields that are not allowed in a trailer, beside those that ValidTrailerName tells by their prefix.
var headerOnly = [...]string{
	"Host", "Forwarded", "X-Real-IP", "Trailer", // framing and routing
	"Cache-Control", "Expect", "Max-Forwards", "Pragma", "Range", // controls of requests
	"Authorization", "Cookie", "Set-Cookie", "WWW-Authenticate", // authentication
	"Age", "Date", "Expires", "Location", "Retry-After", "Vary", "Warning", // controls of responses
}

func hasPrefix(name []byte, prefix string) bool {
	return len(name) >= len(prefix) && exchange.EqualFold(name[:len(prefix)], prefix)
}

// sameName compares field names without regard to ASCII case.
func sameName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
