package compile

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/callerfields"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certmap"
	"keyward.dev/shared/check/chain"
)

// Limits of a group that says nothing else; the defaults of the schema.
const (
	defaultMaxHeaders = 200
	defaultMaxHead    = 64 << 10
	defaultMaxURI     = 16 << 10
	defaultMaxBody    = 10 << 20
)

// settings compiles the group's settings. Settings that cannot be read or used close everything: they say what may be
// spoken, to whom and how far.
func (b *build) settings() {
	changes := b.changes[kindSettings]
	if len(changes) == 0 && b.rt.Settings != nil {
		return
	}
	b.everyRoute = true
	for _, ch := range changes {
		b.forget(kindSettings, ch.uid())
	}
	b.rt.Closed = ""
	var record *state.Record
	n := 0
	for r := range b.rt.Set.All(kindSettings) {
		record = r
		n++
	}
	s, reason := &configv1.Settings{}, ""
	if n > 1 {
		reason = "the group has several settings"
	}
	if record != nil {
		s, reason = decoded[*configv1.Settings](record)
	}
	if reason == "" {
		reason = b.compileSettings(record, s)
	}
	if reason != "" {
		b.rt.Closed = "settings: " + reason
		b.fault(record, reason)
		b.compileSettings(nil, &configv1.Settings{})
	}
}

// reading is what decoded makes of a record.
type reading[M proto.Message] struct {
	m      M
	reason string
}

func read[M proto.Message](r *state.Record) reading[M] {
	m, reason := decoded[M](r)
	return reading[M]{m, reason}
}

// decoded returns the resource of a record, or says why it cannot be used.
func decoded[M proto.Message](r *state.Record) (m M, reason string) {
	any, reason := r.Decode()
	if reason != "" {
		return m, reason
	}
	m, ok := any.(M)
	if !ok {
		return m, "it is not what its kind says"
	}
	return m, ""
}

func (b *build) compileSettings(r *state.Record, s *configv1.Settings) (reason string) {
	out := &runtime.Settings{
		RequireHTTPS: s.RequireHttps == nil || s.GetRequireHttps(),
		StrictPaths:  s.GetPathPolicy() != configv1.PathPolicy_PATH_POLICY_PERMISSIVE,
		MaxHeaders:   defaultMaxHeaders, MaxHead: defaultMaxHead, MaxURI: defaultMaxURI, MaxBody: defaultMaxBody,
		Upgrades: s.Upgrades == nil || s.GetUpgrades(),
	}
	if l := s.GetLimits(); l != nil {
		out.MaxBody = bodyLimit(l.GetBody())
		setIf(&out.MaxHeaders, int(l.GetHeaders()))
		setIf(&out.MaxHead, int(l.GetHead()))
		setIf(&out.MaxURI, int(l.GetUri()))
		out.MaxConns, out.MaxConnsPerClient = int(l.GetConnections()), int(l.GetConnectionsPerClient())
	}
	for name, l := range s.GetListeners() {
		if out.Listeners == nil {
			out.Listeners = map[string]runtime.ListenerOptions{}
		}
		out.Listeners[name] = runtime.ListenerOptions{ProxyProtocol: l.GetProxyProtocol()}
	}
	out.AccessLog, out.Clients = accessLog(s.GetAccessLog()), demandOf(s.GetClientCertificates())
	out.CallerFields = callerfields.New(s.GetIdentityHeaders())
	var err error
	if out.TLS, err = serverTLS(s.GetTls()); err != nil {
		return "tls: " + err.Error()
	}
	if out.Proxies, err = hostsvc.ParsePrefixes(s.GetTrustedProxies()); err != nil {
		return "trusted_proxies: " + err.Error()
	}
	nets := s.GetUpstreamNetworks()
	if out.Egress, err = hostsvc.NewEgressRules(nets.GetAllow(), nets.GetDeny()); err != nil {
		return "upstream_networks: " + err.Error()
	}
	out.EgressKey = strings.Join(nets.GetAllow(), ",") + ";" + strings.Join(nets.GetDeny(), ",")
	var wrong map[int]error
	if out.Identities, wrong = certmap.New(s.GetUpstreamCertificates()); len(wrong) > 0 {
		return "upstream_certificates: " + firstOf(wrong)
	}
	out.IdentitiesKey = identitiesKey(s.GetUpstreamCertificates())
	b.egress = out.Egress
	b.rt.Sharing = policy.NewSharing(b.deps.Monitor) // what there was is of the settings before
	out.Owner = &runtime.Owner{Owner: chain.Owner{Kind: kindSettings}}
	if r != nil {
		out.Owner = b.owner(r, s.GetPolicies())
		b.ownFaults(r, chain.Input{Settings: &out.Owner.Owner})
	}
	b.rt.Settings = out
	return ""
}

// bodyLimit is a size as the server counts.
func bodyLimit(bytes uint64) int64 { return int64(min(bytes, 1<<62)) }

// everything is all exchanges, of a million.
const everything = 1_000_000

// accessLog shows as little of an address as it can if it does not know the form that is asked for.
func accessLog(m *configv1.AccessLog) runtime.AccessLog {
	l := runtime.AccessLog{Sample: everything}
	if m != nil && m.Sample != nil {
		l.Sample = int(m.GetSample())
	}
	for _, member := range m.GetRedact() {
		if l.Redact == nil {
			l.Redact = map[string]struct{}{}
		}
		l.Redact[member] = struct{}{}
	}
	for _, name := range m.GetHeaders() {
		l.Headers = append(l.Headers, strings.ToLower(name))
	}
	switch m.GetClientIp() {
	case configv1.ClientIpForm_CLIENT_IP_FORM_UNSPECIFIED, configv1.ClientIpForm_CLIENT_IP_FORM_FULL:
		l.ClientIP = runtime.ClientIPFull
	case configv1.ClientIpForm_CLIENT_IP_FORM_TRUNCATED:
		l.ClientIP = runtime.ClientIPTruncated
	default:
		l.ClientIP = runtime.ClientIPHashed
	}
	return l
}

func setIf(field *int, v int) {
	if v > 0 {
		*field = v
	}
}
