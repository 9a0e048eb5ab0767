package compile

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
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
	}
	if l := s.GetLimits(); l != nil {
		out.MaxBody = int64(min(l.GetBody(), 1<<62))
		setIf(&out.MaxHeaders, int(l.GetHeaders()))
		setIf(&out.MaxHead, int(l.GetHead()))
		setIf(&out.MaxURI, int(l.GetUri()))
	}
	var err error
	if out.Proxies, err = hostsvc.ParsePrefixes(s.GetTrustedProxies()); err != nil {
		return "trusted_proxies: " + err.Error()
	}
	nets := s.GetUpstreamNetworks()
	if out.Egress, err = hostsvc.NewEgressRules(nets.GetAllow(), nets.GetDeny()); err != nil {
		return "upstream_networks: " + err.Error()
	}
	out.EgressKey = strings.Join(nets.GetAllow(), ",") + ";" + strings.Join(nets.GetDeny(), ",")
	if r != nil {
		out.Owner = b.owner(r, s.GetPolicies())
		b.ownFaults(r, chain.Input{Settings: &out.Owner.Owner})
	}
	b.rt.Settings = out
	return ""
}

func setIf(field *int, v int) {
	if v > 0 {
		*field = v
	}
}
