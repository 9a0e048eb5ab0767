package check

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/match"
	"keyward.dev/shared/problem"
)

// Route checks a route.
func Route(m *configv1.Route) []problem.Violation {
	vs := owner(optionsv1.Site_SITE_ROUTE, m.GetLabels(), m.GetPolicies())
	for i, h := range m.GetHosts() {
		if _, err := match.Pattern(h); err != nil {
			vs.add(problem.Index("hosts", i), "is not a host name or *.parent")
		}
	}
	paths(&vs, m.GetPaths())
	if i := slices.Index(m.GetMethods(), "CONNECT"); i >= 0 {
		vs.add(problem.Index("methods", i), "gateways make no tunnels")
	}
	conditions(&vs, "headers", m.GetHeaders(), true)
	conditions(&vs, "query", m.GetQuery(), false)
	rewrite(&vs, m)
	branches(&vs, m.GetAuthn())
	retries(&vs, m.GetRetries().GetMethods(), m.GetRetries().GetBudget())
	upgrades(&vs, m.GetUpgrade())
	if c := m.GetClientCertificates(); c != nil {
		clientCertificates(&vs, c, c.GetInherit())
	}
	return vs
}

func paths(vs *violations, entries []*configv1.PathMatch) {
	first := map[string]int{}
	for i, p := range entries {
		at := problem.Index("paths", i)
		key, part, reason := PathEntry(p)
		if reason != "" {
			vs.add(problem.Join(at, part), "%s", reason)
			continue
		}
		if key == "" {
			continue
		}
		if j, ok := first[key]; ok {
			vs.add(at, "the same path as element %d", j)
			continue
		}
		first[key] = i
	}
}

// PathEntry returns a key that is equal for equal path entries, and the field it comes from; or why it can take nothing.
func PathEntry(p *configv1.PathMatch) (key, part, reason string) {
	switch e := p.GetMatch().(type) {
	case *configv1.PathMatch_Prefix:
		key, reason = literalPath(e.Prefix)
		return "prefix " + key, "prefix", reason
	case *configv1.PathMatch_Exact:
		key, reason = literalPath(e.Exact)
		return "exact " + key, "exact", reason
	case *configv1.PathMatch_Regex:
		return "regex " + e.Regex, "regex", pathRegex(e.Regex)
	default:
		return "", "", "" // none given, told by the schema
	}
}

func literalPath(path string) (normal, reason string) {
	normal, err := match.Path(path)
	if err != nil {
		return "", "is not a path that a request can have"
	}
	return normal, ""
}

// pathRegex refuses expressions that no path can match: every path begins with a slash.
func pathRegex(expr string) string {
	if _, _, err := match.Regex(expr); err != nil {
		return "is not an RE2 expression"
	}
	tree, err := syntax.Parse(`\A(?:`+expr+`)\z`, syntax.Perl)
	if err != nil {
		return "is not an RE2 expression"
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return "is not an RE2 expression"
	}
	if !beginsWith(prog, '/') {
		return "can match no path: a path begins with /"
	}
	return ""
}

// beginsWith reports whether a program can take r as its first character.
func beginsWith(prog *syntax.Prog, r rune) bool {
	seen := make([]bool, len(prog.Inst))
	todo := []int{prog.Start}
	for len(todo) > 0 {
		pc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[pc] {
			continue
		}
		seen[pc] = true
		in := &prog.Inst[pc]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, int(in.Out), int(in.Arg))
		case syntax.InstCapture, syntax.InstNop:
			todo = append(todo, int(in.Out))
		case syntax.InstEmptyWidth:
			if before := syntax.EmptyOpContext(-1, r); syntax.EmptyOp(in.Arg)&^before == 0 {
				todo = append(todo, int(in.Out))
			}
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if in.MatchRune(r) {
				return true
			}
		default:
		}
	}
	return false
}

var fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func conditions(vs *violations, path string, fields []*configv1.FieldMatch, header bool) {
	for i, f := range fields {
		at := problem.Index(path, i)
		if header && f.GetName() != "" && !fieldName.MatchString(f.GetName()) {
			vs.add(at+".name", "is not a field name")
		}
		if re, ok := f.GetMatch().(*configv1.FieldMatch_Regex); ok {
			if _, _, err := match.Regex(re.Regex); err != nil {
				vs.add(at+".regex", "is not an RE2 expression")
			}
		}
		same := func(o *configv1.FieldMatch) bool { return proto.Equal(o, f) }
		if j := slices.IndexFunc(fields[:i], same); j >= 0 {
			vs.add(at, "the same condition as element %d", j)
		}
	}
}

func rewrite(vs *violations, m *configv1.Route) {
	if !m.GetRewrite().GetStripPrefix() {
		return
	}
	other := func(p *configv1.PathMatch) bool {
		_, prefix := p.GetMatch().(*configv1.PathMatch_Prefix)
		return !prefix && p.GetMatch() != nil
	}
	if i := slices.IndexFunc(m.GetPaths(), other); i >= 0 {
		vs.add("rewrite.strip_prefix", "only for prefix paths, and paths[%d] is another kind", i)
	}
}

func branches(vs *violations, authn *configv1.Authn) {
	all := authn.GetAnyOf()
	for i, b := range all {
		same := func(o *configv1.AuthnBranch) bool { return proto.Equal(o, b) }
		if j := slices.IndexFunc(all[:i], same); j >= 0 {
			vs.add(problem.Index("authn.any_of", i), "the same alternative as element %d", j)
		}
	}
}

// upgrades refuses protocols that are HTTP, or TLS, once more: requests inside would pass no policy.
func upgrades(vs *violations, protocols []string) {
	for i, p := range protocols {
		name, _, _ := strings.Cut(p, "/")
		if slices.Contains([]string{"h2c", "h2", "http", "tls"}, name) {
			vs.add(problem.Index("upgrade", i), "would carry requests past the policies")
		}
	}
}
