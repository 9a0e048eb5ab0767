package problem

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Violation is one broken rule and the place where it is broken.
type Violation struct {
	// Path in the document, e.g. `routes[2].policies[0].config.windows[1].limit`; empty for the whole of it.
	Path string `json:"path"`
	// Reason says what is wrong and what would be right.
	Reason string `json:"reason"`
	// Resource names the resource the place belongs to, e.g. `routes/hello`, where known.
	Resource string `json:"resource,omitempty"`
	// Line and Column in the text, from 1; 0 if not known.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Code of the problem this violation alone would be; empty means Invalid. It is not rendered.
	Code Code `json:"-"`
}

// String returns the violation for people: path, position and reason.
func (v Violation) String() string {
	var b strings.Builder
	b.WriteString(v.Path)
	if v.Resource != "" {
		fmt.Fprintf(&b, " of %s", v.Resource)
	}
	if v.Line > 0 {
		fmt.Fprintf(&b, " (line %d, column %d)", v.Line, v.Column)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(v.Reason)
	return strings.TrimPrefix(b.String(), " ")
}

// Join appends the path of a part to the path of the whole: "routes[0]" and "name" give "routes[0].name".
func Join(whole, part string) string {
	switch {
	case whole == "":
		return part
	case part == "":
		return whole
	case strings.HasPrefix(part, "["):
		return whole + part
	default:
		return whole + "." + part
	}
}

// Key appends a key to a path: `labels.team`, or `labels["a b"]` where the key is not a plain word.
func Key(path, key string) string {
	plain := key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	switch {
	case !plain:
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

// Index appends an index to a path: `routes[2]`.
func Index(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

// Under returns the violations with their paths put below prefix.
func Under(prefix string, vs []Violation) []Violation {
	out := make([]Violation, len(vs))
	for i, v := range vs {
		v.Path = Join(prefix, v.Path)
		out[i] = v
	}
	return out
}

// Overlap reports whether two paths are equal or one is inside the other.
func Overlap(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if !strings.HasPrefix(b, a) {
		return false
	}
	return len(a) == len(b) || a == "" || b[len(a)] == '.' || b[len(a)] == '['
}

// Sort orders violations by their place in the document — indexes as numbers — and then by reason, and drops repetitions.
func Sort(vs []Violation) []Violation {
	slices.SortStableFunc(vs, func(a, b Violation) int {
		return cmp.Or(ComparePaths(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.CompactFunc(vs, func(a, b Violation) bool { return a.Path == b.Path && a.Reason == b.Reason })
}

// ComparePaths orders paths so that `a[2]` is before `a[10]` and a whole before its parts.
func ComparePaths(a, b string) int {
	for a != "" && b != "" {
		na, restA := number(a)
		nb, restB := number(b)
		if na != "" && nb != "" {
			if c := cmp.Or(cmp.Compare(len(na), len(nb)), cmp.Compare(na, nb)); c != 0 {
				return c
			}
			a, b = restA, restB
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// number splits leading digits off, without leading zeros.
func number(s string) (digits, rest string) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	digits = strings.TrimLeft(s[:n], "0")
	if n > 0 && digits == "" {
		digits = "0"
	}
	return digits, s[n:]
}
