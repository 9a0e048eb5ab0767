package exchange

import "iter"

// Header is one header field in its received spelling.
type Header struct {
	Name, Value []byte
}

// Headers are header fields in arrival order. Names match without regard to ASCII case.
type Headers []Header

// Get returns the value of the first field called name, or nil.
func (h Headers) Get(name string) []byte {
	if i := h.Index(name, 0); i >= 0 {
		return h[i].Value
	}
	return nil
}

// Has says whether a field called name is present.
func (h Headers) Has(name string) bool { return h.Index(name, 0) >= 0 }

// Index returns the position of the first field called name at or after from, or -1.
func (h Headers) Index(name string, from int) int {
	for i := from; i < len(h); i++ {
		if EqualFold(h[i].Name, name) {
			return i
		}
	}
	return -1
}

// Values yields the values of all fields called name in arrival order.
func (h Headers) Values(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range h {
			if EqualFold(h[i].Name, name) && !yield(h[i].Value) {
				return
			}
		}
	}
}

// Add appends a field.
func (h *Headers) Add(f Header) { *h = append(*h, f) }

// Set replaces all fields of f's name by f, in the place of the first.
func (h *Headers) Set(f Header) {
	hs, kept, placed := *h, 0, false
	for i := range hs {
		if !equalFoldBytes(hs[i].Name, f.Name) {
			hs[kept] = hs[i]
			kept++
			continue
		}
		if !placed {
			hs[kept], placed = f, true
			kept++
		}
	}
	clear(hs[kept:])
	*h = hs[:kept]
	if !placed {
		*h = append(*h, f)
	}
}

// Del removes all fields called name.
func (h *Headers) Del(name string) {
	hs, kept := *h, 0
	for i := range hs {
		if !EqualFold(hs[i].Name, name) {
			hs[kept] = hs[i]
			kept++
		}
	}
	clear(hs[kept:])
	*h = hs[:kept]
}

// DelAt removes the field at position i.
func (h *Headers) DelAt(i int) {
	hs := *h
	copy(hs[i:], hs[i+1:])
	clear(hs[len(hs)-1:])
	*h = hs[:len(hs)-1]
}

// EqualFold compares b with s without regard to ASCII case.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if b[i] != s[i] && lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
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
