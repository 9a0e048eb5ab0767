package check

import (
	"regexp"
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/match"
	"keyward.dev/shared/problem"
)

// Service checks a service.
func Service(m *configv1.Service) []problem.Violation {
	vs := owner(optionsv1.Site_SITE_SERVICE, m.GetLabels(), m.GetPolicies())
	if len(m.GetTargets()) > 0 && !slices.ContainsFunc(m.GetTargets(), takesRequests) {
		vs.add("targets", "every weight is 0, so no target takes requests")
	}
	if ProtocolContradicts(m) {
		vs.add("protocol", "contradicts the scheme of url")
	}
	if m.GetPath() != "" {
		if _, err := match.Path(m.GetPath()); err != nil {
			vs.add("path", "is not a path that a request can have")
		}
	}
	if h := m.GetHostHeader(); h != "" && h != "upstream" && h != "preserve" {
		if _, err := match.Host(nil, []byte(h)); err != nil {
			vs.add("host_header", "is neither upstream, preserve nor a host name")
		}
	}
	retries(&vs, m.GetRetries().GetMethods(), m.GetRetries().GetBudget())
	balancer(&vs, m.GetBalancer())
	activeHealth(&vs, m.GetHealth().GetActive())
	wholePercents(&vs, "health.passive.max_ejected", m.GetHealth().GetPassive().GetMaxEjected())
	wholePercents(&vs, "circuit_breaker.failure_ratio", m.GetCircuitBreaker().GetFailureRatio())
	overTLS := OverTLS(m) || secured(m.GetProtocol()) // a contradiction was told already
	if c := m.GetClientCertificates(); c != nil {
		clientCertificates(&vs, c, false)
	}
	if m.GetTls() != nil {
		upstreamTLS(&vs, m.GetTls(), overTLS)
	}
	if len(m.GetUpstreamCertificates()) > 0 && !overTLS {
		vs.add("upstream_certificates", "go with TLS only: a protocol of https, h2 or grpcs, or an https url")
	}
	upstreamCertificates(&vs, m.GetUpstreamCertificates())
	return vs
}

// takesRequests reports whether a target has a share; a target without a weight has the default one.
func takesRequests(t *configv1.Target) bool { return t.Weight == nil || t.GetWeight() > 0 }

// OverTLS reports whether targets are spoken to over TLS: the scheme of url says so, or without one the protocol.
func OverTLS(m *configv1.Service) bool {
	if m.GetUrl() != "" {
		return scheme(m) == "https"
	}
	return secured(m.GetProtocol())
}

// OverHTTP2 reports whether targets are spoken to in HTTP/2.
func OverHTTP2(m *configv1.Service) bool {
	p := m.GetProtocol()
	return p != configv1.Protocol_PROTOCOL_UNSPECIFIED && p != configv1.Protocol_PROTOCOL_HTTP && p != configv1.Protocol_PROTOCOL_HTTPS
}

// ProtocolContradicts reports whether the protocol says something else of TLS than the url beside it. PROTOCOL_HTTP does
// not: it is what the field holds when it is left out.
func ProtocolContradicts(m *configv1.Service) bool {
	if scheme(m) == "https" {
		return m.GetProtocol() == configv1.Protocol_PROTOCOL_H2C || m.GetProtocol() == configv1.Protocol_PROTOCOL_GRPC
	}
	return m.GetUrl() != "" && secured(m.GetProtocol())
}

func scheme(m *configv1.Service) string {
	s, _, _ := strings.Cut(m.GetUrl(), ":")
	return strings.ToLower(s)
}

func secured(p configv1.Protocol) bool {
	return p == configv1.Protocol_PROTOCOL_HTTPS || p == configv1.Protocol_PROTOCOL_H2 || p == configv1.Protocol_PROTOCOL_GRPCS
}

// Idempotent stands, among the methods that may be repeated, for those of RFC 9110 section 9.2.2.
const Idempotent = "idempotent"

var methodForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Z-]{1,128}$")

func retries(vs *violations, methods []string, budget uint32) {
	for i, m := range methods {
		if m != Idempotent && !methodForm.MatchString(m) {
			vs.add(problem.Index("retries.methods", i), "is neither a method, an upper-case word such as GET, nor %s", Idempotent)
		}
	}
	wholePercents(vs, "retries.budget", budget)
}

// onePercent in millionths.
const onePercent = 10_000

// wholePercents refuses shares that are counted no finer.
func wholePercents(vs *violations, at string, millionths uint32) {
	if millionths%onePercent != 0 {
		vs.add(at, "is not a whole number of percents")
	}
}

func balancer(vs *violations, b *configv1.Balancer) {
	consistent := b.GetAlgorithm() == configv1.BalancerAlgorithm_BALANCER_ALGORITHM_CONSISTENT_HASH
	if b.GetHashOn() != nil && !consistent {
		vs.add("balancer.hash_on", "goes with algorithm: consistent-hash only")
		return
	}
	if consistent && b.GetSlowStart().AsDuration() > 0 {
		vs.add("balancer.slow_start", "does not go with consistent-hash, which keeps requests where they are")
	}
	by := b.GetHashOn().GetBy()
	named := by == configv1.HashOnSource_HASH_ON_SOURCE_HEADER || by == configv1.HashOnSource_HASH_ON_SOURCE_COOKIE
	switch name := b.GetHashOn().GetName(); {
	case named && name == "":
		vs.add("balancer.hash_on", "needs the name of the header field or cookie")
	case !named && name != "":
		vs.add("balancer.hash_on.name", "goes with by: header and by: cookie only")
	}
}

func activeHealth(vs *violations, h *configv1.ActiveHealth) {
	if h.GetPath() != "" {
		if _, err := match.Path(h.GetPath()); err != nil {
			vs.add("health.active.path", "is not a path that a request can have")
		}
	}
	if h.GetHost() != "" {
		if _, err := match.Host(nil, []byte(h.GetHost())); err != nil {
			vs.add("health.active.host", "is not a host name or address with an optional port")
		}
	}
	if h.GetInterval() != nil && h.GetTimeout().AsDuration() > h.GetInterval().AsDuration() {
		vs.add("health.active.timeout", "is longer than the interval from one probe to the next")
	}
}
