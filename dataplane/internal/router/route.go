package router

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"

	"keyward.dev/dataplane/internal/exchange"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/match"
)

// Route is one route, compiled. It is immutable.
type Route struct {
	// What a request looks at comes first and together: with very many routes that is one wait for memory, not three.

	Methods  []string
	Disabled bool
	through  bool
	// Target is what the table's user wants back. It is set once, before the route is put into a table.
	Target any
	// conditions are nil without any.
	conditions *conditions

	UID, Name string
	hosts     []string
	paths     []path
	order     match.Order

	// Needs says what the route asks of a connection before there is a request on it; routes that ask for the same have the
	// same. Empty: nothing. It is set like Target.
	Needs string
}

// path is one path of a route.
type path struct {
	text  string
	exact bool
	regex *Regex
}

// Regex is a compiled path expression.
type Regex struct {
	re      *regexp.Regexp
	literal []byte
}

// Match reports whether the expression matches the whole path.
func (x *Regex) Match(path []byte) bool {
	return bytes.HasPrefix(path, x.literal) && x.re.Match(path)
}

// HostError is the error of a route whose hosts are not known: whatever it would have taken cannot be told.
type HostError struct{ Err error }

func (e *HostError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *HostError) Unwrap() error { return e.Err }

// Compile compiles the matching part of a route. If that fails, the returned route still says which hosts it names, to be
// given to Editor.Close; a HostError means that not even those are known.
func Compile(uid string, r *configv1.Route) (*Route, error) {
	c := &Route{
		UID: uid, Name: r.GetName(), Methods: r.GetMethods(),
		Disabled: r.Enabled != nil && !r.GetEnabled(), through: r.GetFallthrough(), order: match.OrderOf(r),
	}
	for _, h := range r.GetHosts() {
		p, err := match.Pattern(h)
		if err != nil {
			return c, &HostError{fmt.Errorf("host %q: %w", h, err)}
		}
		if !slices.Contains(c.hosts, p) {
			c.hosts = append(c.hosts, p)
		}
	}
	for _, p := range match.Paths(r) {
		if err := c.addPath(p); err != nil {
			return c, err
		}
	}
	var err error
	c.conditions, err = conditionsOf(r)
	return c, err
}

func (c *Route) addPath(m *configv1.PathMatch) error {
	var p path
	var err error
	switch m := m.GetMatch().(type) {
	case *configv1.PathMatch_Exact:
		p.exact = true
		p.text, err = match.Path(m.Exact)
	case *configv1.PathMatch_Prefix:
		p.text, err = match.Path(m.Prefix)
	case *configv1.PathMatch_Regex:
		p.text = m.Regex
		p.regex, err = compileRegex(m.Regex)
	default:
		return fmt.Errorf("path of a kind that this gateway does not know")
	}
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	same := func(o path) bool {
		return o.text == p.text && o.exact == p.exact && (o.regex == nil) == (p.regex == nil)
	}
	if !slices.ContainsFunc(c.paths, same) {
		c.paths = append(c.paths, p)
	}
	return nil
}

func compileRegex(expr string) (*Regex, error) {
	re, literal, err := match.Regex(expr)
	if err != nil {
		return nil, err
	}
	return &Regex{re: re, literal: []byte(literal)}, nil
}

func (c *Route) takes(method []byte) bool {
	return len(c.Methods) == 0 || slices.ContainsFunc(c.Methods, func(m string) bool { return string(method) == m })
}

func (c *Route) holds(r *Request) bool {
	if c.conditions == nil {
		return true
	}
	for i := range c.conditions.headers {
		if !c.conditions.headers[i].header(r.Header) {
			return false
		}
	}
	for i := range c.conditions.query {
		if !c.conditions.query[i].parameter(r.Query) {
			return false
		}
	}
	return true
}

// conditions are those of a route, beside host, path and method.
type conditions struct {
	headers, query []condition
}

func conditionsOf(r *configv1.Route) (*conditions, error) {
	if len(r.GetHeaders())+len(r.GetQuery()) == 0 {
		return nil, nil //nolint:nilnil // there are none
	}
	headers, err := compileConditions(r.GetHeaders())
	if err != nil {
		return nil, err
	}
	query, err := compileConditions(r.GetQuery())
	return &conditions{headers, query}, err
}

// condition is a condition on a header field or query parameter.
type condition struct {
	name   string
	kind   conditionKind
	text   string
	absent bool
	regex  *regexp.Regexp
}

type conditionKind int

const (
	isExact conditionKind = iota
	isPrefix
	isRegex
	isPresent
)

func compileConditions(fields []*configv1.FieldMatch) ([]condition, error) {
	var out []condition
	for _, f := range fields {
		c := condition{name: f.GetName()}
		switch m := f.GetMatch().(type) {
		case *configv1.FieldMatch_Exact:
			c.kind, c.text = isExact, m.Exact
		case *configv1.FieldMatch_Prefix:
			c.kind, c.text = isPrefix, m.Prefix
		case *configv1.FieldMatch_Present:
			c.kind, c.absent = isPresent, !m.Present
		case *configv1.FieldMatch_Regex:
			re, _, err := match.Regex(m.Regex)
			if err != nil {
				return nil, fmt.Errorf("condition on %s: %w", f.GetName(), err)
			}
			c.kind, c.regex = isRegex, re
		default:
			return nil, fmt.Errorf("condition on %s of a kind that this gateway does not know", f.GetName())
		}
		out = append(out, c)
	}
	return out, nil
}

func (c *condition) header(h exchange.Headers) bool {
	present := false
	for i := h.Index(c.name, 0); i >= 0; i = h.Index(c.name, i+1) {
		present = true
		if c.value(h[i].Value) {
			return true
		}
	}
	return c.kind == isPresent && present != c.absent
}

// parameter looks the parameter up in a raw query. Only escaped names and values are copied.
func (c *condition) parameter(query []byte) bool {
	present := false
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, ampersand)
		if len(pair) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(pair, equals)
		if string(unescaped(name)) != c.name {
			continue
		}
		present = true
		if c.value(unescaped(value)) {
			return true
		}
	}
	return c.kind == isPresent && present != c.absent
}

var (
	ampersand = []byte("&")
	equals    = []byte("=")
)

func unescaped(b []byte) []byte {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b
	}
	return match.AppendUnescaped(nil, b)
}

func (c *condition) value(v []byte) bool {
	switch c.kind {
	case isExact:
		return string(v) == c.text
	case isPrefix:
		return len(v) >= len(c.text) && string(v[:len(c.text)]) == c.text
	case isRegex:
		return c.regex.Match(v)
	case isPresent:
	}
	return false
}
