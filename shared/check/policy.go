package check

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/problem"
)

// Policy checks the configuration of a policy. Types without rules beyond their schema have nothing to check.
func Policy(cfg proto.Message) []problem.Violation {
	switch cfg := cfg.(type) {
	case *policyv1.KeyAuth:
		return keyAuth(cfg)
	case *policyv1.JwtAuth:
		return jwtAuth(cfg)
	case *policyv1.HmacAuth:
		return hmacAuth(cfg)
	case *policyv1.LdapAuth:
		return ldapAuth(cfg)
	case *policyv1.MtlsAuth:
		return mtlsAuth(cfg)
	case *policyv1.RateLimit:
		return rateLimit(cfg)
	case *policyv1.Cors:
		return cors(cfg)
	case *policyv1.Authorize:
		return authorize(cfg)
	case *policyv1.VaultAuth:
		return vaultAuth(cfg)
	case *policyv1.JwtSigner:
		return jwtSigner(cfg)
	default:
		return nil
	}
}

// framing reports whether a header field carries the message itself. A credential in one would be taken away before the
// request is forwarded, and with it the framing.
func framing(name string) bool {
	return slices.ContainsFunc([]string{
		"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade",
	}, func(f string) bool { return strings.EqualFold(f, name) })
}

func keyAuth(cfg *policyv1.KeyAuth) violations {
	var vs violations
	places(&vs, cfg)
	if cfg.MaxBody != nil && len(cfg.GetBody()) == 0 {
		vs.add("max_body", "goes with body")
	}
	return vs
}

// places checks where an authentication policy looks for credentials.
func places(vs *violations, cfg interface{ GetHeader() []string }) {
	for i, h := range cfg.GetHeader() {
		switch {
		case framing(h):
			vs.add(problem.Index("header", i), "%s belongs to the connection and cannot carry a credential", h)
		case strings.EqualFold(h, "Cookie"):
			vs.add(problem.Index("header", i), "name the cookie in cookie instead")
		}
	}
	sameFold(vs, "header", cfg.GetHeader())
}

func mtlsAuth(cfg *policyv1.MtlsAuth) violations {
	var vs violations
	for i, ca := range cfg.GetCa() {
		if !authorityName(ca) {
			vs.add(problem.Index("ca", i), "is not the name of one of ca-certificates")
		}
	}
	return vs
}

// sameFold tells field names that differ in case only: they are one field.
func sameFold(vs *violations, path string, names []string) {
	for i, n := range names {
		j := slices.IndexFunc(names[:i], func(o string) bool { return strings.EqualFold(n, o) })
		if j >= 0 && names[j] != n {
			vs.add(problem.Index(path, i), "the same field as element %d", j)
		}
	}
}

func rateLimit(cfg *policyv1.RateLimit) violations {
	var vs violations
	first := map[time.Duration]int{}
	for i, w := range cfg.GetWindows() {
		d := w.GetWindow().AsDuration()
		if j, ok := first[d]; ok && w.GetWindow() != nil {
			vs.add(problem.Index("windows", i)+".window", "the same window as element %d; only the smaller limit would count", j)
			continue
		}
		first[d] = i
	}
	return vs
}

func cors(cfg *policyv1.Cors) violations {
	var vs violations
	first := map[string]int{}
	for i, o := range cfg.GetAllowOrigins() {
		at := problem.Index("allow_origins", i)
		normal, ok := Origin(o)
		if !ok {
			vs.add(at, "is not an origin: scheme, host and port only, such as https://app.example or https://*.example")
			continue
		}
		if j, ok := first[normal]; ok && cfg.GetAllowOrigins()[j] != o {
			vs.add(at, "the same origin as element %d", j)
		}
		first[normal] = i
		if o == "*" && len(cfg.GetAllowOrigins()) > 1 {
			vs.add(at, "'*' already lets every origin in; leave the others out, or it")
		}
	}
	sameFold(&vs, "allow_headers", cfg.GetAllowHeaders())
	sameFold(&vs, "expose_headers", cfg.GetExposeHeaders())
	if cfg.GetAllowCredentials() {
		literalStar(&vs, "allow_methods", cfg.GetAllowMethods())
		literalStar(&vs, "allow_headers", cfg.GetAllowHeaders())
		literalStar(&vs, "expose_headers", cfg.GetExposeHeaders())
	}
	return vs
}

// literalStar tells stars that browsers do not take as "all" once credentials are allowed (Fetch standard, 4.9).
func literalStar(vs *violations, path string, values []string) {
	if i := slices.Index(values, "*"); i >= 0 {
		vs.add(problem.Index(path, i), "with allow_credentials '*' is a name like any other; list the names")
	}
}

// Origin returns the form in which browsers send an origin: lower case, without a default port. A star may stand for
// everything or for one label.
func Origin(o string) (normal string, ok bool) {
	if o == "*" {
		return o, true
	}
	u, err := url.Parse(strings.ToLower(o))
	if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Hostname() == "" {
		return "", false
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", false
	}
	if host := strings.TrimPrefix(u.Hostname(), "*."); strings.Contains(host, "*") || strings.Trim(host, ".") != host || strings.Contains(host, "..") {
		return "", false
	}
	port := u.Port()
	if n, err := strconv.ParseUint(port, 10, 16); strings.HasSuffix(u.Host, ":") || port != "" && (err != nil || n == 0) {
		return "", false
	}
	if u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		return u.Scheme + "://" + strings.TrimSuffix(u.Host, ":"+port), true
	}
	return u.Scheme + "://" + u.Host, true
}
