package httpwire

import (
	"bytes"

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
	hasPort := colon > bytes.LastIndexByte(h.Target, ']') && colon < len(h.Target)-1
	if !hasPort || !validAuthority(h.Target) {
		return ErrTarget
	}
	h.Host = h.Target
	return nil
}

func (h *Head) absoluteForm() error {
	scheme, rest, _ := bytes.Cut(h.Target, []byte{':'})
	switch {
	case exchange.EqualFold(scheme, "http"):
		h.Scheme = "http"
	case exchange.EqualFold(scheme, "https"):
		h.Scheme = "https"
	default:
		return ErrTarget
	}
	rest, ok := bytes.CutPrefix(rest, []byte("//"))
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
	h.Path, h.Query, _ = bytes.Cut(b, []byte{'?'})
	if !allOf(b, targetByte) || !validEscapes(h.Path) {
		return ErrTarget
	}
	return nil
}

func validEscapes(path []byte) bool {
	for {
		i := bytes.IndexByte(path, '%')
		if i < 0 {
			return true
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return false
		}
		path = path[i+3:]
	}
}
