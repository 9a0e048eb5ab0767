package check

import (
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"
)

// IdentityHeader is what one header field says of the caller, by the word in documents.
type IdentityHeader struct {
	Says, Name string
}

// IdentityHeaders lists the header fields that have a name.
func IdentityHeaders(m *configv1.IdentityHeaders) []IdentityHeader {
	all := []IdentityHeader{
		{"consumer", m.GetConsumer()},
		{"consumer_id", m.GetConsumerId()},
		{"username", m.GetUsername()},
		{"custom_id", m.GetCustomId()},
		{"kind", m.GetKind()},
		{"credential_name", m.GetCredentialName()},
		{"groups", m.GetGroups()},
		{"scopes", m.GetScopes()},
		{"subject", m.GetSubject()},
		{"how", m.GetHow()},
		{"anonymous", m.GetAnonymous()},
	}
	named := all[:0]
	for _, h := range all {
		if h.Name != "" {
			named = append(named, h)
		}
	}
	return named
}

// FoldField returns the form in which field names are equal that servers may take for one: CGI and what comes from it know
// neither case nor any sign but one.
func FoldField(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r | 0x20
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		default:
			return '-'
		}
	}, name)
}

// FoldsTo reports whether FoldField makes folded of a name.
func FoldsTo(name []byte, folded string) bool {
	if len(name) != len(folded) {
		return false
	}
	for i, c := range name {
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			c = '-'
		}
		if c != folded[i] {
			return false
		}
	}
	return true
}

// gatewayFields are those that gateways write, or that carry credentials or the body: to take them away from requests would
// be another thing than to keep callers from forging them.
func gatewayFields() []string {
	return []string{
		"Accept", "Authorization", "Client-Cert", "Client-Cert-Chain", "Cookie", "Content-Encoding", "Content-Type", "Expect", "Forwarded", "Max-Forwards",
		"Proxy-Authorization", "Range", "Traceparent", "Tracestate", "User-Agent", "Via", "X-Real-IP", "X-Request-ID",
	}
}

func identityHeaders(vs *violations, m *configv1.IdentityHeaders) {
	const at = "identity_headers"
	reserved := map[string]bool{}
	for _, f := range gatewayFields() {
		reserved[FoldField(f)] = true
	}
	said := map[string]string{}
	for _, h := range IdentityHeaders(m) {
		folded := FoldField(h.Name)
		path := problem.Join(at, h.Says)
		switch before, twice := said[folded]; {
		case framing(folded) || reserved[folded] || strings.HasPrefix(folded, "x-forwarded-"):
			vs.add(path, "%s has another meaning and cannot say who calls", h.Name)
		case twice:
			vs.add(path, "the same field as %s, or one that servers may take for it", before)
		default:
			said[folded] = h.Says
		}
	}
}
