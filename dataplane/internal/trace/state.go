package trace

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
)

// maxMembers is how many members a tracestate may have, over all its fields.
const maxMembers = 32

// state passes on what other tracing systems wrote into n fields of tracestate, as one field and in order. Without a
// trace to continue it goes, and so does a list that is not well-formed, of which the trace stays (W3C Trace Context
// section 3.3).
func state(x *exchange.Exchange, n int, continued bool) {
	h := &x.Request.Header
	members, size := 0, 0
	for i := h.Index(fieldState, 0); i >= 0 && continued; i = h.Index(fieldState, i+1) {
		v := (*h)[i].Value
		more, ok := countMembers(v)
		members, size = members+more, size+len(v)+1
		continued = ok && members <= maxMembers
	}
	switch {
	case !continued || members == 0:
		h.Del(fieldState)
	case n > 1:
		h.Set(exchange.Header{Name: nameState, Value: joined(*h, x.Alloc(size))})
	}
}

func joined(h exchange.Headers, all []byte) []byte {
	for i := h.Index(fieldState, 0); i >= 0; i = h.Index(fieldState, i+1) {
		if len(all) > 0 && len(h[i].Value) > 0 {
			all = append(all, ',')
		}
		all = append(all, h[i].Value...)
	}
	return all
}

// countMembers counts the members of one field, empty ones not, and says whether all are well-formed.
func countMembers(list []byte) (n int, ok bool) {
	for more := true; more; {
		var member []byte
		member, list, more = bytes.Cut(list, []byte{','})
		member = bytes.Trim(member, " \t")
		if len(member) == 0 {
			continue
		}
		key, value, ok := bytes.Cut(member, []byte{'='})
		if !ok || !isKey(key) || !isValue(value) {
			return n, false
		}
		n++
	}
	return n, true
}

// isKey: ( lcalpha / DIGIT ) 0*255( lcalpha / DIGIT / "_" / "-" / "*" / "/" / "@" ).
func isKey(b []byte) bool {
	for i, c := range b {
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || bytes.IndexByte([]byte("_-*/@"), c) < 0) {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 256
}

// isValue: up to 256 printable characters without comma and equals sign, and no space at the end.
func isValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 256 && b[len(b)-1] != ' '
}
