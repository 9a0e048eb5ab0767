package exchange

import (
	"bytes"
	"iter"
)

// NextQuery returns the next value of the query parameter called name at or after position from, percent-decoded, and
// the position to go on from. ok is false when there is none left.
func (x *Exchange) NextQuery(name string, from int) (value []byte, next int, ok bool) {
	return x.NextPair(x.Request.Query, name, from)
}

// RemoveQuery removes every query parameter called name. RawTarget keeps what was received.
func (x *Exchange) RemoveQuery(name string) {
	if _, _, ok := x.NextQuery(name, 0); !ok {
		return
	}
	if x.Request.Query = x.WithoutPair(x.Request.Query, name); len(x.Request.Query) == 0 {
		x.Request.Query = nil
	}
}

// NextPair is NextQuery for q, pairs in the form of a query: application/x-www-form-urlencoded.
func (x *Exchange) NextPair(q []byte, name string, from int) (value []byte, next int, ok bool) {
	for from < len(q) {
		end := pairEnd(q, from)
		key, val, _ := bytes.Cut(q[from:end], []byte("="))
		if x.queryNameIs(key, name) {
			return x.decodeQuery(val), end + 1, true
		}
		from = end + 1
	}
	return nil, len(q), false
}

// QueryPairs yields the names and values of the query in their order, percent-decoded.
func (x *Exchange) QueryPairs() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		q := x.Request.Query
		for from := 0; from < len(q); {
			end := pairEnd(q, from)
			key, val, _ := bytes.Cut(q[from:end], []byte("="))
			if end > from && !yield(x.decodeQuery(key), x.decodeQuery(val)) {
				return
			}
			from = end + 1
		}
	}
}

// WithoutPair returns q without the pairs called name, in new memory.
func (x *Exchange) WithoutPair(q []byte, name string) []byte {
	kept := x.Alloc(len(q))
	for from := 0; from < len(q); {
		end := pairEnd(q, from)
		key, _, _ := bytes.Cut(q[from:end], []byte("="))
		if !x.queryNameIs(key, name) {
			if len(kept) > 0 {
				kept = append(kept, '&')
			}
			kept = append(kept, q[from:end]...)
		}
		from = end + 1
	}
	return kept
}

func pairEnd(q []byte, from int) int {
	if i := bytes.IndexByte(q[from:], '&'); i >= 0 {
		return from + i
	}
	return len(q)
}

func (x *Exchange) queryNameIs(key []byte, name string) bool {
	if bytes.IndexByte(key, '%') < 0 && bytes.IndexByte(key, '+') < 0 {
		return string(key) == name
	}
	return string(x.decodeQuery(key)) == name
}

// decodeQuery decodes percent-escapes and '+'. A broken escape stays as it is: it then equals no credential.
func (x *Exchange) decodeQuery(b []byte) []byte {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b
	}
	out := x.Alloc(len(b))
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '+':
			out = append(out, ' ')
		case b[i] == '%' && i+2 < len(b) && isHex(b[i+1]) && isHex(b[i+2]):
			out = append(out, unhex(b[i+1])<<4|unhex(b[i+2]))
			i += 2
		default:
			out = append(out, b[i])
		}
	}
	return out
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return lower(c) - 'a' + 10
}
