package check

import (
	"maps"
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"
)

// Settings checks the settings of a group.
func Settings(m *configv1.Settings) []problem.Violation {
	vs := owner(optionsv1.Site_SITE_SETTINGS, m.GetLabels(), m.GetPolicies())
	for _, name := range slices.Sorted(maps.Keys(m.GetListeners())) {
		at := problem.Key("listeners", name)
		if scheme, _, _ := strings.Cut(name, "-"); scheme != "http" && scheme != "https" {
			vs.add(at, "is not the name of a listener: http, https, or one that begins with these and a hyphen")
		}
		if m.GetListeners()[name].GetProxyProtocol() && len(m.GetTrustedProxies()) == 0 {
			vs.add(at+".proxy_protocol", "needs trusted_proxies: PROXY headers of others are not believed")
		}
	}
	accessLog(&vs, m.GetAccessLog())
	identityHeaders(&vs, m.GetIdentityHeaders())
	upstreamCertificates(&vs, m.GetUpstreamCertificates())
	serverTLS(&vs, m.GetTls())
	if c := m.GetClientCertificates(); c != nil {
		clientCertificates(&vs, c, false)
	}
	stages(&vs, m.GetRollout().GetStages())
	return vs
}

// stages checks that no stage of a roll-out is without gateways of its own by what it says.
func stages(vs *violations, stages []*configv1.RolloutStage) {
	var most uint32
	for i, s := range stages {
		at := problem.Index("rollout.stages", i)
		*vs = append(*vs, problem.Under(at, checkLabels(s.GetLabels()))...)
		if p := s.GetPercent(); p > 0 && p <= most {
			vs.add(problem.Join(at, "percent"), "must be more than that of the stages before: it includes them")
		}
		most = max(most, s.GetPercent())
	}
}

// LogMembers are the members of an access log line that can be redacted: all but those without which it says nothing.
func LogMembers() []string {
	return []string{
		"trace_id", "client_ip", "peer", "scheme", "protocol", "method", "host", "path", "bytes_in", "bytes_out", "duration_us", "upstream_us",
		"route", "service", "consumer", "credential", "user_agent", "code", "policy", "binding", "would_refuse", "headers",
	}
}

func accessLog(vs *violations, l *configv1.AccessLog) {
	for i, m := range l.GetRedact() {
		if !slices.Contains(LogMembers(), m) {
			vs.add(problem.Index("access_log.redact", i), "is none of %s", strings.Join(LogMembers(), ", "))
		}
	}
	for i, h := range l.GetHeaders() {
		at := problem.Index("access_log.headers", i)
		switch strings.ToLower(h) {
		case "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key":
			vs.add(at, "carries credentials, which are never logged")
		case "forwarded", "x-forwarded-for", "x-real-ip":
			if f := l.GetClientIp(); f != configv1.ClientIpForm_CLIENT_IP_FORM_UNSPECIFIED && f != configv1.ClientIpForm_CLIENT_IP_FORM_FULL {
				vs.add(at, "shows addresses of which client_ip does not show all")
			}
		}
	}
	sameFold(vs, "access_log.headers", l.GetHeaders())
}
