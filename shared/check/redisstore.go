package check

import (
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

func redisStore(m *configv1.RedisStore) violations {
	var vs violations
	cluster, sentinel := m.GetMode() == configv1.RedisMode_REDIS_MODE_CLUSTER, m.GetMode() == configv1.RedisMode_REDIS_MODE_SENTINEL
	switch {
	case !cluster && !sentinel && len(m.GetAddresses()) > 1:
		vs.add("addresses", "a single Redis has one; say mode: cluster or mode: sentinel if they are those of one")
	case cluster && m.GetDatabase() != 0:
		vs.add("database", "a cluster has only one; leave it out")
	}
	switch {
	case sentinel && m.GetSentinel() == nil:
		vs.add("sentinel", "required with mode: sentinel")
	case !sentinel && m.GetSentinel() != nil:
		vs.add("sentinel", "is for mode: sentinel; leave it out")
	}
	return append(vs, redisTLS(m)...)
}

func redisTLS(m *configv1.RedisStore) violations {
	var vs violations
	t := m.GetTls()
	bare := t != nil && t.Enabled != nil && !t.GetEnabled()
	for i, a := range m.GetAddresses() {
		if bare && !t.GetInsecurePlaintext() && !onLoopback(a) {
			vs.add(problem.Index("addresses", i), "without TLS anybody on the way could log in, or say what was used before; leave tls.enabled out, or say tls.insecure_plaintext: true")
		}
	}
	switch {
	case bare && (len(t.GetCa()) > 0 || t.GetServerName() != ""):
		vs.add("tls.enabled", "false makes ca and server_name void; leave them out")
	case !bare && t.GetInsecurePlaintext():
		vs.add("tls.insecure_plaintext", "is void with TLS; leave it out")
	}
	for i, ca := range t.GetCa() {
		if !authorityName(ca) {
			vs.add(problem.Index("tls.ca", i), "is not the name of one of ca-certificates")
		}
	}
	return vs
}

// RedisPassword names a password that a store has to have and has not; empty: none. It is for stores of which it is known which
// secrets they keep.
func RedisPassword(m *configv1.RedisStore) string {
	switch s := m.GetSentinel(); {
	case m.GetUsername() != "" && !secret.Stored(m.GetPassword()):
		return "password"
	case s.GetUsername() != "" && !secret.Stored(s.GetPassword()):
		return "sentinel.password"
	}
	return ""
}

// sharing is a policy that may remember something together with other gateways.
type sharing interface {
	GetReplayStore() string
	GetOnStoreError() policyv1.OnStoreError
}

func sharedStore(vs *violations, cfg sharing) {
	if cfg.GetOnStoreError() != policyv1.OnStoreError_ON_STORE_ERROR_UNSPECIFIED && cfg.GetReplayStore() == "" {
		vs.add("on_store_error", "goes with replay_store")
	}
}
