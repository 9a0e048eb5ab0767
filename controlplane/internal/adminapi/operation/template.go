package operation

import "slices"

import "strings"

// Template is a path with variables: "/v1/groups/{group}/routes/{route}:explain". A variable is one whole segment; the
// last segment may carry a verb after a colon.
type Template struct {
	segments []segment
	verb     string
}

// segment is a literal, or a variable: label is what people read, field what the request message calls it.
type segment struct {
	literal, label, field string
}

// parse reads a template. The variable "parent" is shown as what it names: "consumer" behind "consumers".
func parse(path string) Template {
	var t Template
	path = strings.TrimPrefix(path, "/")
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		path, t.verb = path[:i], path[i+1:]
	}
	for part := range strings.SplitSeq(path, "/") {
		name, isVar := strings.CutPrefix(part, "{")
		if !isVar {
			t.segments = append(t.segments, segment{literal: part})
			continue
		}
		field := strings.TrimSuffix(name, "}")
		label := field
		if n := len(t.segments); field == "parent" && n > 0 {
			label = strings.TrimSuffix(t.segments[n-1].literal, "s")
		}
		t.segments = append(t.segments, segment{label: label, field: field})
	}
	return t
}

// String returns the template as OpenAPI writes it.
func (t Template) String() string {
	var b strings.Builder
	for _, s := range t.segments {
		b.WriteByte('/')
		if s.literal != "" {
			b.WriteString(s.literal)
		} else {
			b.WriteString("{" + s.label + "}")
		}
	}
	if t.verb != "" {
		b.WriteString(":" + t.verb)
	}
	return b.String()
}

// Vars returns the names of the request fields that the path fills, in order.
func (t Template) Vars() []string {
	var out []string
	for _, s := range t.segments {
		if s.literal == "" {
			out = append(out, s.field)
		}
	}
	return out
}

// Labels returns the names of the variables as people read them, in the order of Vars.
func (t Template) Labels() []string {
	var out []string
	for _, s := range t.segments {
		if s.literal == "" {
			out = append(out, s.label)
		}
	}
	return out
}

// Expand fills the variables, by field name.
func (t Template) Expand(fields map[string]string) string {
	path := t.String()
	for _, s := range t.segments {
		if s.literal == "" {
			path = strings.Replace(path, "{"+s.label+"}", fields[s.field], 1)
		}
	}
	return path
}

// Match compares a decoded path and returns the request fields it fills. specific counts the literals, to prefer
// "/groups/{group}/revisions" to a path with a variable there.
func (t Template) Match(segments []string, verb string) (fields map[string]string, specific int, ok bool) {
	if len(segments) != len(t.segments) || verb != t.verb {
		return nil, 0, false
	}
	fields = make(map[string]string, 3)
	for i, s := range t.segments {
		switch s.literal {
		case "":
			fields[s.field] = segments[i]
		case segments[i]:
			specific++
		default:
			return nil, 0, false
		}
	}
	return fields, specific, true
}

// Split cuts a decoded path into segments and a verb. Names hold neither '/' nor ':', so nothing is ambiguous. ok is false
// for paths no template can match.
func Split(path string) (segments []string, verb string, ok bool) {
	path, ok = strings.CutPrefix(path, "/")
	if !ok {
		return nil, "", false
	}
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		path, verb = path[:i], path[i+1:]
		if verb == "" {
			return nil, "", false
		}
	}
	segments = strings.Split(path, "/")
	if slices.Contains(segments, "") {
		return nil, "", false
	}
	return segments, verb, true
}
