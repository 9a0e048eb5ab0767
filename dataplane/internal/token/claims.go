package token

import (
	"slices"
	"strconv"
	"strings"
)

func (r *Rules) checkClaims(t *Token) Fault {
	for _, name := range r.Required {
		if v := Lookup(t.Claims, name); v == nil {
			return Claim
		}
	}
	for i := range r.Claims {
		if !r.Claims[i].holds(Lookup(t.Claims, r.Claims[i].Name)) {
			return Claim
		}
	}
	return OK
}

// Lookup returns a claim by its name, or if there is none of that name, by a way through others that dots divide:
// realm_access.roles. Names with dots of their own, such as URLs, are found first. It is nil if there is none.
func Lookup(claims map[string]any, name string) any {
	if v, ok := claims[name]; ok {
		return v
	}
	for at := 0; ; {
		dot := strings.IndexByte(name[at:], '.')
		if dot < 0 {
			return nil
		}
		at += dot + 1
		if inner, ok := claims[name[:at-1]].(map[string]any); ok {
			if v := Lookup(inner, name[at:]); v != nil {
				return v
			}
		}
	}
}

func (c *ClaimRule) holds(v any) bool {
	switch c.Match {
	case Present:
		return v != nil
	case Absent:
		return v == nil
	case Equals:
		s, ok := scalar(v)
		return ok && slices.Contains(c.Values, s)
	case Contains:
		return slices.ContainsFunc(Words(v), func(s string) bool { return slices.Contains(c.Values, s) })
	case ContainsAll:
		have := Words(v)
		return v != nil && !slices.ContainsFunc(c.Values, func(s string) bool { return !slices.Contains(have, s) })
	}
	return false
}

// scalar writes a single value as configuration does.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	}
	return "", false
}

// Name returns a claim that can name somebody: a text, or a whole number, which is written out. Others name nobody.
func Name(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// Words returns the values of a claim that may have several: the elements of a list, or the words of a text, as scope has
// them (RFC 8693 section 4.2). Values of other kinds are passed over.
func Words(v any) []string {
	switch v := v.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			if s, ok := scalar(e); ok && s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	if s, ok := scalar(v); ok {
		return []string{s}
	}
	return nil
}
