package check

import (
	"slices"
	"strings"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/ciphers"
	"keyward.dev/shared/problem"
)

// aYear is what browser makers ask of hosts that are to be built in.
const aYear = 365 * 24 * time.Hour

func serverTLS(vs *violations, t *configv1.ServerTls) {
	if t == nil {
		return
	}
	knownTLS(vs, t)
	contradictions(vs, t)
}

// knownTLS refuses what does not exist, or is not safe.
func knownTLS(vs *violations, t *configv1.ServerTls) {
	for i, name := range t.GetCipherSuites() {
		if reason := ciphers.Reason(name); reason != "" {
			vs.add(problem.Index("tls.cipher_suites", i), "%s", reason)
		}
	}
	for i, name := range t.GetCurves() {
		if _, ok := ciphers.Curves()[name]; !ok {
			vs.add(problem.Index("tls.curves", i), "is none of %s", ciphers.Names(ciphers.Curves()))
		}
	}
	for i, name := range t.GetAlpn() {
		if !slices.Contains(ciphers.Protocols(), name) {
			vs.add(problem.Index("tls.alpn", i), "is none of %s", strings.Join(ciphers.Protocols(), ", "))
		}
	}
	transportSecurity(vs, t.GetHsts())
}

// contradictions refuses what leaves nothing to speak, or means nothing.
func contradictions(vs *violations, t *configv1.ServerTls) {
	if t.GetMaxVersion() != "" && t.GetMaxVersion() < t.GetMinVersion() {
		vs.add("tls.max_version", "is below min_version")
	}
	if t.GetMinVersion() == "1.3" && len(t.GetCipherSuites()) > 0 {
		vs.add("tls.cipher_suites", "means nothing with a min_version of 1.3: only those of TLS 1.2 can be chosen")
	}
	hybrid := func(name string) bool { return strings.Contains(name, "MLKEM") }
	if len(t.GetCurves()) > 0 && !slices.ContainsFunc(t.GetCurves(), func(name string) bool { return !hybrid(name) }) && t.GetMinVersion() != "1.3" {
		vs.add("tls.curves", "has nothing for TLS 1.2, which knows no hybrid ones: add X25519, or set min_version to 1.3")
	}
}

func transportSecurity(vs *violations, h *configv1.Hsts) {
	if h == nil {
		return
	}
	age := h.GetMaxAge().AsDuration()
	if age%time.Second != 0 {
		vs.add("tls.hsts.max_age", "is not in whole seconds")
	}
	if h.GetPreload() && (age < aYear || !h.GetIncludeSubdomains()) {
		vs.add("tls.hsts.preload", "needs include_subdomains and a max_age of at least a year (8760h)")
	}
}
