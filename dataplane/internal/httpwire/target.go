package httpwire

import (
	"bytes"
	"net/netip"

	"keyward.dev/dataplane/internal/exchange"
)

// target reads the request target in one of its four forms (RFC 9112 section 3.2).
func (h *Head) target() error {
	t := h.Target
	switch {
	case string(h.Method) == "CONNECT":
		return h.authorityForm()
	case t[0] == '/':
		return h.pathAndQuery(t)
	case len(t) == 1 && t[0] == '*':
		if string(h.Method) != "OPTIONS" {
			return ErrTarget
		}
		h.Path = t
		return nil
	}
	return h.absoluteForm()
}

func (h *Head) authorityForm() error {
	colon := bytes.LastIndexByte(h.Target, ':')
	if colon < 0 || colon == len(h.Target)-1 || !validAuthority(h.Target) {
		return ErrTarget
	}
	h.Host = h.Target
	return nil
}

func (h *Head) absoluteForm() error {
	t := h.Target
	colon := bytes.IndexByte(t, ':')
	switch {
	case colon < 0:
		return ErrTarget
	case exchange.EqualFold(t[:colon], "http"):
		h.Scheme = "http"
	case exchange.EqualFold(t[:colon], "https"):
		h.Scheme = "https"
	default:
		return ErrTarget
	}
	rest, ok := bytes.CutPrefix(t[colon+1:], []byte("//"))
	if !ok {
		return ErrTarget
	}
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if h.Host = rest[:end]; !validAuthority(h.Host) {
		return ErrTarget
	}
	return h.pathAndQuery(rest[end:])
}

// pathAndQuery splits at the first '?'. Bytes outside visible ASCII and '#' are refused, so are broken percent-escapes in
// the path; what is unwise but unambiguous is for the path policy.
func (h *Head) pathAndQuery(b []byte) error {
	h.Path = b
	if before, after, ok := bytes.Cut(b, []byte{'?'}); ok {
		h.Path, h.Query = before, after
	}
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return ErrTarget
		}
	}
	for i := bytes.IndexByte(h.Path, '%'); i >= 0 && i < len(h.Path); i++ {
		if h.Path[i] != '%' {
			continue
		}
		if i+2 >= len(h.Path) || !isHex(h.Path[i+1]) || !isHex(h.Path[i+2]) {
			return ErrTarget
		}
	}
	return nil
}

// validAuthority accepts host names of letters, digits, '-', '_' and '.', IPv4 addresses and IPv6 addresses in brackets,
// each with an optional port. User information is never accepted.
func validAuthority(b []byte) bool {
	if len(b) == 0 || len(b) > 300 {
		return false
	}
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 || end > 46 {
			return false
		}
		a, err := netip.ParseAddr(string(b[1:end]))
		return err == nil && a.Is6() && a.Zone() == "" && validPort(b[end+1:])
	}
	end := bytes.IndexByte(b, ':')
	if end < 0 {
		end = len(b)
	}
	for _, c := range b[:end] {
		if !isHostByte[c] {
			return false
		}
	}
	return end > 0 && validPort(b[end:])
}

// validPort accepts nothing, or a colon and a decimal port.
func validPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != ':' || len(b) > 6 {
		return false
	}
	port := 0
	for _, c := range b[1:] {
		if !isDigit(c) {
			return false
		}
		port = port*10 + int(c-'0')
	}
	return len(b) == 1 || port <= 65535
}

// sameAuthority compares without regard to case; the port must be written alike.
func sameAuthority(a, b []byte) bool {
	return len(a) == len(b) && bytes.EqualFold(a, b)
}
