package ldapname

import (
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep filters are nested.
const maxDepth = 16

// EscapeFilter writes what may stand as a value, or as a part of one, in a filter (RFC 4515 section 3).
func EscapeFilter(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c < ' ' || c >= 0x7f || strings.IndexByte("()*\\", c) >= 0 {
			escaped(&b, c)
			continue
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// FillFilter puts a user name into a filter.
func FillFilter(template, username string) string {
	return strings.ReplaceAll(template, Placeholder, EscapeFilter(username))
}

// GoodFilter reports whether a text with the place of the user name is a filter with whatever is put there, as a value.
func GoodFilter(template string) bool {
	return strings.Contains(template, Placeholder) && Filter(FillFilter(template, "x")) && Filter(FillFilter(template, probe))
}

// Filter reports whether a text is a filter. Those that compare nothing, `(&)` and `(|)`, are not taken.
func Filter(text string) bool {
	rest, ok := cutFilter(text, 0)
	return ok && rest == "" && utf8.ValidString(text)
}

func cutFilter(text string, depth int) (rest string, ok bool) {
	if depth > maxDepth || len(text) < 2 || text[0] != '(' {
		return "", false
	}
	switch text[1] {
	case '&', '|':
		rest, n := text[2:], 0
		for strings.HasPrefix(rest, "(") {
			if rest, ok = cutFilter(rest, depth+1); !ok {
				return "", false
			}
			n++
		}
		return closed(rest, n > 0)
	case '!':
		rest, ok := cutFilter(text[2:], depth+1)
		return closed(rest, ok)
	}
	end := strings.IndexByte(text, ')')
	if end < 0 {
		return "", false
	}
	return text[end+1:], item(text[1:end])
}

func closed(rest string, ok bool) (string, bool) {
	if !ok || !strings.HasPrefix(rest, ")") {
		return "", false
	}
	return rest[1:], true
}

// item reports whether a text compares an attribute with a value.
func item(text string) bool {
	left, value, found := strings.Cut(text, "=")
	if !found {
		return false
	}
	stars := true
	switch {
	case strings.HasSuffix(left, ":"):
		return extensible(left[:len(left)-1]) && goodValue(value, false)
	case strings.HasSuffix(left, ">"), strings.HasSuffix(left, "<"), strings.HasSuffix(left, "~"):
		left, stars = left[:len(left)-1], false
	}
	return description(left) && goodValue(value, stars)
}

// description reports whether a text is an attribute, with options or not.
func description(text string) bool {
	name, options, found := strings.Cut(text, ";")
	if !Attribute(name) {
		return false
	}
	for found {
		var option string
		option, options, found = strings.Cut(options, ";")
		if option == "" || strings.Trim(strings.ToLower(option), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// extensible reports whether a text says by which rule what is compared: `attr`, `attr:dn:rule`, `:dn:rule`, `:rule`.
func extensible(text string) bool {
	name, rest, ruled := strings.Cut(text, ":")
	if name != "" && !description(name) || name == "" && !ruled {
		return false
	}
	if !ruled {
		return true
	}
	if rest == "dn" {
		return name != ""
	}
	return Attribute(strings.TrimPrefix(rest, "dn:"))
}

// goodValue reports whether a text is a value; stars may stand for anything if they are allowed.
func goodValue(text string, stars bool) bool {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			if _, ok := unhex(text[i+1:]); !ok {
				return false
			}
			i += 2
		case c == 0 || c == '(' || c == '*' && (!stars || strings.HasPrefix(text[i+1:], "*")):
			return false
		}
	}
	return text != ""
}
