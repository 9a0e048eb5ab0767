package match

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// Field is a header field or a decoded query parameter.
type Field struct{ Name, Value string }

// Request is what routes are chosen by. Host and Path are normalised.
type Request struct {
	Host, Path, Method string
	Headers            []Field
	Query              string // raw, without the question mark
}

// Result says who takes a request.
type Result struct {
	Status int             // 200 if a route takes it; else 404, 405, or 503 if what would decide cannot be read
	Route  *configv1.Route // nil unless Status is 200
	Prefix string          // the prefix that matched, if it was one
	Allow  []string        // with 405, sorted
	Steps  []string        // how it was found, for people
}

// kind of a path entry, in order of precedence.
type kind int

const (
	exact kind = iota
	regex
	prefix
)

// entry is one path of one host; several routes may share it.
type entry struct {
	kind     kind
	text     string
	priority int32 // regex: the highest of its routes
	literal  int   // regex
	matches  func(path string) bool
	routes   []*configv1.Route
}

// Routes chooses among the routes of a group. Host first and final, then the path, then the conditions of the routes on
// the winning path.
func Routes(routes []*configv1.Route, r Request) Result {
	res := Result{Status: 404}
	host, candidates, closed := byHost(routes, r.Host)
	if len(candidates) == 0 && closed == "" {
		res.step("no route takes host %q", r.Host)
		return res
	}
	res.step("host %q is taken by %s", r.Host, host)
	if closed != "" {
		res.step("closed: %s", closed)
		res.Status = 503
		return res
	}
	entries, err := entriesOf(candidates)
	if err != nil {
		res.step("closed: %v", err)
		res.Status = 503
		return res
	}
	for _, e := range entries {
		if !e.matches(r.Path) {
			continue
		}
		if res.visit(e, r) {
			return res
		}
	}
	if len(res.Allow) > 0 {
		res.Status = 405
	}
	return res
}

func (res *Result) step(format string, args ...any) {
	res.Steps = append(res.Steps, fmt.Sprintf(format, args...))
}

// visit decides about an entry that matches; false means: go on with the next.
func (res *Result) visit(e *entry, r Request) bool {
	name := [...]string{"exact path", "regular expression", "prefix"}[e.kind]
	res.step("%s %s takes the path", name, e.text)
	through := true
	for _, route := range e.routes {
		through = through && route.GetFallthrough()
		if !conditions(route, r) {
			res.step("route %s: its header or query conditions do not hold", route.GetName())
			continue
		}
		if !method(route, r.Method) {
			res.step("route %s: does not take %s", route.GetName(), r.Method)
			if enabled(route) {
				res.allow(route.GetMethods())
			}
			continue
		}
		if !enabled(route) {
			res.step("route %s: is switched off", route.GetName())
			res.Status, res.Allow = 404, nil
			return true
		}
		res.step("route %s takes it", route.GetName())
		res.Status, res.Route, res.Allow = 200, route, nil
		if e.kind == prefix {
			res.Prefix = e.text
		}
		return true
	}
	if through {
		res.step("no route on it fits, and it falls through")
		return false
	}
	if len(res.Allow) > 0 {
		res.Status = 405
	}
	return true
}

func (res *Result) allow(methods []string) {
	for _, m := range methods {
		if !slices.Contains(res.Allow, m) {
			res.Allow = append(res.Allow, m)
		}
	}
	slices.Sort(res.Allow)
}

func enabled(r *configv1.Route) bool { return r.Enabled == nil || r.GetEnabled() }

// byHost returns what took the host and its routes; closed says why they cannot be relied upon.
func byHost(routes []*configv1.Route, host string) (string, []*configv1.Route, string) {
	tables := map[string][]*configv1.Route{}
	for _, r := range routes {
		if len(r.GetHosts()) == 0 {
			tables[""] = append(tables[""], r)
		}
		for _, h := range r.GetHosts() {
			p, err := Pattern(h)
			if err != nil {
				return "", nil, fmt.Sprintf("route %s: host %q: %v", r.GetName(), h, err)
			}
			if !slices.Contains(tables[p], r) {
				tables[p] = append(tables[p], r)
			}
		}
	}
	if t := tables[host]; len(t) > 0 && host != "" {
		return host, t, ""
	}
	if parent := Parent([]byte(host)); parent != nil {
		if t := tables["*."+string(parent)]; len(t) > 0 {
			return "*." + string(parent), t, ""
		}
	}
	return "the routes without hosts", tables[""], ""
}

// entriesOf returns the paths of the routes, most specific first.
func entriesOf(routes []*configv1.Route) ([]*entry, error) {
	var entries []*entry
	for _, r := range routes {
		if err := CheckConditions(r); err != nil {
			return nil, err
		}
		for _, p := range Paths(r) {
			e, err := newEntry(p)
			if err != nil {
				return nil, fmt.Errorf("route %s: %w", r.GetName(), err)
			}
			i := slices.IndexFunc(entries, func(o *entry) bool { return o.kind == e.kind && o.text == e.text })
			if i < 0 {
				e.priority = r.GetPriority()
				entries, i = append(entries, e), len(entries)
			}
			e = entries[i]
			e.priority = max(e.priority, r.GetPriority())
			if !slices.Contains(e.routes, r) {
				e.routes = append(e.routes, r)
			}
		}
	}
	for _, e := range entries {
		slices.SortFunc(e.routes, func(a, b *configv1.Route) int { return OrderOf(a).Compare(OrderOf(b)) })
	}
	slices.SortFunc(entries, compareEntries)
	return entries, nil
}

// Paths returns the paths of a route; none means everything.
func Paths(r *configv1.Route) []*configv1.PathMatch {
	if len(r.GetPaths()) > 0 {
		return r.GetPaths()
	}
	return []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/"}}}
}

// CheckConditions reports a header or query condition that cannot be evaluated.
func CheckConditions(r *configv1.Route) error {
	for _, f := range slices.Concat(r.GetHeaders(), r.GetQuery()) {
		switch m := f.GetMatch().(type) {
		case *configv1.FieldMatch_Exact, *configv1.FieldMatch_Prefix, *configv1.FieldMatch_Present:
		case *configv1.FieldMatch_Regex:
			if _, _, err := Regex(m.Regex); err != nil {
				return fmt.Errorf("route %s: condition on %s: %w", r.GetName(), f.GetName(), err)
			}
		default:
			return fmt.Errorf("route %s: condition on %s without a kind that is known here", r.GetName(), f.GetName())
		}
	}
	return nil
}

func newEntry(p *configv1.PathMatch) (*entry, error) {
	switch m := p.GetMatch().(type) {
	case *configv1.PathMatch_Exact:
		text, err := Path(m.Exact)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", m.Exact, err)
		}
		return &entry{kind: exact, text: text, matches: func(path string) bool { return path == text }}, nil
	case *configv1.PathMatch_Regex:
		re, literal, err := Regex(m.Regex)
		if err != nil {
			return nil, err
		}
		return &entry{kind: regex, text: m.Regex, literal: len(literal), matches: re.MatchString}, nil
	case *configv1.PathMatch_Prefix:
		text, err := Path(m.Prefix)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", m.Prefix, err)
		}
		return &entry{kind: prefix, text: text, matches: func(path string) bool { return HasPrefix(path, text) }}, nil
	}
	return nil, fmt.Errorf("path without a kind that is known here")
}

// HasPrefix reports whether prefix ends path on a segment boundary: `/p` takes `/p` and `/p/x`, not `/px`; `/p/` takes
// what is below it only.
func HasPrefix(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}

func compareEntries(a, b *entry) int {
	if c := cmp.Compare(a.kind, b.kind); c != 0 {
		return c
	}
	if a.kind == regex {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(b.literal, a.literal), cmp.Compare(a.text, b.text))
	}
	return cmp.Or(cmp.Compare(len(b.text), len(a.text)), cmp.Compare(a.text, b.text))
}

// Conditions is how many conditions a route has beside host and path; its methods are one.
func Conditions(r *configv1.Route) int {
	n := len(r.GetHeaders()) + len(r.GetQuery())
	if len(r.GetMethods()) > 0 {
		n++
	}
	return n
}

// Order is a route's place among those on the same path.
type Order struct {
	Conditions int
	Priority   int32
	Name       string
}

// OrderOf returns the route's place.
func OrderOf(r *configv1.Route) Order {
	return Order{Conditions: Conditions(r), Priority: r.GetPriority(), Name: r.GetName()}
}

// Compare orders routes on the same path: more conditions first, then higher priority, then name.
func (o Order) Compare(p Order) int {
	return cmp.Or(cmp.Compare(p.Conditions, o.Conditions), cmp.Compare(p.Priority, o.Priority), cmp.Compare(o.Name, p.Name))
}

func method(r *configv1.Route, m string) bool {
	return len(r.GetMethods()) == 0 || slices.Contains(r.GetMethods(), m)
}

func conditions(r *configv1.Route, req Request) bool {
	for _, f := range r.GetHeaders() {
		if !holds(f, req.Headers, strings.EqualFold) {
			return false
		}
	}
	if len(r.GetQuery()) == 0 {
		return true
	}
	params := Query(req.Query)
	for _, f := range r.GetQuery() {
		if !holds(f, params, func(a, b string) bool { return a == b }) {
			return false
		}
	}
	return true
}

// holds reports whether one of the fields with the condition's name fulfils it. A condition that does not compile never
// holds; admission refuses it and a gateway closes the host.
func holds(f *configv1.FieldMatch, fields []Field, same func(a, b string) bool) bool {
	present := false
	for _, field := range fields {
		if !same(field.Name, f.GetName()) {
			continue
		}
		present = true
		switch m := f.GetMatch().(type) {
		case *configv1.FieldMatch_Exact:
			if field.Value == m.Exact {
				return true
			}
		case *configv1.FieldMatch_Prefix:
			if strings.HasPrefix(field.Value, m.Prefix) {
				return true
			}
		case *configv1.FieldMatch_Regex:
			if re, _, err := Regex(m.Regex); err == nil && re.MatchString(field.Value) {
				return true
			}
		}
	}
	m, ok := f.GetMatch().(*configv1.FieldMatch_Present)
	return ok && m.Present == present
}

// Query decodes the parameters of a raw query. What is not a valid escape stands for itself.
func Query(raw string) []Field {
	var fields []Field
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		fields = append(fields, Field{
			Name:  string(AppendUnescaped(nil, []byte(name))),
			Value: string(AppendUnescaped(nil, []byte(value))),
		})
	}
	return fields
}

// AppendUnescaped appends the decoded form of a query name or value: `+` is a space, `%XX` a byte.
func AppendUnescaped(dst, s []byte) []byte {
	if bytes.IndexByte(s, '%') < 0 && bytes.IndexByte(s, '+') < 0 {
		return append(dst, s...)
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			dst = append(dst, ' ')
		case '%':
			if v, ok := escape(s[i:]); ok {
				dst = append(dst, v)
				i += 2
				continue
			}
			dst = append(dst, c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
