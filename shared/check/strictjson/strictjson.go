// Package strictjson reads JSON objects that somebody else has made and that two readers must not understand differently:
// the parts of a token, keys, key sets. What RFC 8259 leaves to the reader is refused: members that are there twice, text that
// is not UTF-8, halves of surrogate pairs, numbers that cannot be kept, and anything deeper or larger than such objects are.
//
// It is pure and knows nothing of what the members mean. Admission and gateways call it.
package strictjson

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// Bounds of one object. They are far beyond what honest tokens and key sets have.
const (
	MaxBytes   = 512 << 10
	maxDepth   = 12
	maxValues  = 8192
	maxNumber  = 40
	maxNameLen = 512
)

// The ways in which an object is refused. They do not repeat what was in it: that may be a secret.
var (
	ErrSyntax    = errors.New("is not JSON")
	ErrNotObject = errors.New("is not a JSON object")
	ErrDuplicate = errors.New("has a member twice")
	ErrEncoding  = errors.New("is not valid UTF-8")
	ErrNumber    = errors.New("has a number that is too large")
	ErrTooMuch   = errors.New("is too large or too deep")
)

// Object reads one object and nothing else. Values are nil, bool, string, int64, float64, []any and map[string]any; a number
// without fraction and exponent is an int64.
func Object(b []byte) (map[string]any, error) {
	if len(b) > MaxBytes {
		return nil, ErrTooMuch
	}
	if !utf8.Valid(b) {
		return nil, ErrEncoding
	}
	r := &reader{b: b}
	r.space()
	if r.peek() != '{' {
		return nil, ErrNotObject
	}
	v, err := r.object(1)
	if err != nil {
		return nil, err
	}
	r.space()
	if r.at != len(r.b) {
		return nil, ErrSyntax
	}
	return v, nil
}

type reader struct {
	b      []byte
	at     int
	values int
}

// peek returns the next byte, 0 at the end. A byte 0 is nowhere part of JSON.
func (r *reader) peek() byte {
	if r.at < len(r.b) {
		return r.b[r.at]
	}
	return 0
}

func (r *reader) space() {
	for r.at < len(r.b) {
		switch r.b[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// next skips spaces and takes the byte if it is there.
func (r *reader) next(c byte) bool {
	r.space()
	if r.peek() != c {
		return false
	}
	r.at++
	return true
}

func (r *reader) value(depth int) (any, error) {
	r.space()
	if r.values++; r.values > maxValues || depth > maxDepth {
		return nil, ErrTooMuch
	}
	switch c := r.peek(); {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		return r.text()
	case c == '-' || '0' <= c && c <= '9':
		return r.number()
	case r.word("true"):
		return true, nil
	case r.word("false"):
		return false, nil
	case r.word("null"):
		return nil, nil
	}
	return nil, ErrSyntax
}

func (r *reader) word(w string) bool {
	if len(r.b)-r.at < len(w) || string(r.b[r.at:r.at+len(w)]) != w {
		return false
	}
	r.at += len(w)
	return true
}

func (r *reader) object(depth int) (map[string]any, error) {
	r.at++
	out := map[string]any{}
	if r.next('}') {
		return out, nil
	}
	for {
		r.space()
		if r.peek() != '"' {
			return nil, ErrSyntax
		}
		name, err := r.text()
		switch _, twice := out[name]; {
		case err != nil:
			return nil, err
		case twice:
			return nil, ErrDuplicate
		case len(name) > maxNameLen:
			return nil, ErrTooMuch
		case !r.next(':'):
			return nil, ErrSyntax
		}
		if out[name], err = r.value(depth + 1); err != nil {
			return nil, err
		}
		if r.next('}') {
			return out, nil
		}
		if !r.next(',') {
			return nil, ErrSyntax
		}
	}
}

func (r *reader) array(depth int) ([]any, error) {
	r.at++
	out := []any{}
	if r.next(']') {
		return out, nil
	}
	for {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if r.next(']') {
			return out, nil
		}
		if !r.next(',') {
			return nil, ErrSyntax
		}
	}
}

// number reads a number as RFC 8259 section 6 writes it.
func (r *reader) number() (any, error) {
	from, whole := r.at, true
	if r.peek() == '-' {
		r.at++
	}
	if r.peek() == '0' {
		r.at++
	} else if !r.digits() {
		return nil, ErrSyntax
	}
	if r.peek() == '.' {
		whole = false
		if r.at++; !r.digits() {
			return nil, ErrSyntax
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		whole = false
		if r.at++; r.peek() == '+' || r.peek() == '-' {
			r.at++
		}
		if !r.digits() {
			return nil, ErrSyntax
		}
	}
	return parseNumber(r.b[from:r.at], whole)
}

func parseNumber(digits []byte, whole bool) (any, error) {
	if len(digits) > maxNumber {
		return nil, ErrNumber
	}
	if whole {
		n, err := strconv.ParseInt(string(digits), 10, 64)
		if err != nil {
			return nil, ErrNumber
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(string(digits), 64)
	if err != nil {
		return nil, ErrNumber
	}
	return f, nil
}

func (r *reader) digits() bool {
	from := r.at
	for '0' <= r.peek() && r.peek() <= '9' {
		r.at++
	}
	return r.at > from
}
