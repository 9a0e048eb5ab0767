package check

import (
	"slices"
	"strings"

	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/signingkey"
	"keyward.dev/shared/problem"
)

// hmacAuthCredential checks what is there of the key. That there is one, the control plane knows once it has put in what is
// kept.
func hmacAuthCredential(vs *violations, m *credentialv1.HmacAuth) {
	var fault *signingkey.Fault
	switch plain := m.GetSecret().GetPlaintext(); {
	case m.GetPublicKey() != "" && m.GetSecret() != nil:
		fault = &signingkey.Fault{Field: "public_key", Reason: "goes without a secret"}
	case m.GetPublicKey() != "":
		_, fault = signingkey.Public(m)
	case plain != "":
		_, fault = signingkey.Secret(m, plain)
	}
	if fault != nil {
		vs.add("config."+fault.Field, "%s", fault.Reason)
	}
}

func hmacAuth(cfg *policyv1.HmacAuth) violations {
	var vs violations
	for i, name := range cfg.GetRequired() {
		if reason := signed(name); reason != "" {
			vs.add(problem.Index("required", i), "%s", reason)
		}
	}
	if cfg.GetRequireNonce() {
		for i, f := range cfg.GetFormats() {
			if f == "cavage" {
				vs.add(problem.Index("formats", i), "signatures of this form have no nonce, which require_nonce asks for")
			}
		}
		if cfg.GetReplay() > policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_SIGNATURES {
			vs.add("replay", "a nonce that is not remembered is of no use, and require_nonce asks for one")
		}
	}
	if cfg.GetReplayStore() != "" && cfg.GetReplay() == policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_OFF {
		vs.add("replay_store", "nothing is remembered with replay: off; leave one of them out")
	}
	sharedStore(&vs, cfg)
	if cfg.GetTag() != "" && len(cfg.GetFormats()) > 0 && !slices.Contains(cfg.GetFormats(), "rfc9421") {
		vs.add("tag", "only signatures of the format rfc9421 have one")
	}
	return vs
}

// signed says why something cannot be asked to be covered by a signature, empty if it can.
func signed(name string) string {
	if derived, ok := strings.CutPrefix(name, "@"); ok {
		switch derived {
		case "method", "target-uri", "authority", "scheme", "request-target", "path", "query":
			return ""
		}
		return "is not a derived component of requests: @method, @target-uri, @authority, @scheme, @request-target, @path, @query"
	}
	for _, c := range name {
		if c <= ' ' || c > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c) {
			return "is not the name of a header field"
		}
	}
	switch {
	case strings.ToLower(name) != name:
		return "must be in lower case, as signatures have it"
	case name == "x-request-id", name == "traceparent", name == "tracestate":
		return "is written by the gateway before it looks at signatures, so none can cover it"
	case framing(name) && name != "host" && name != "content-length":
		return "belongs to the connection and is not there any more when signatures are looked at"
	}
	return ""
}
