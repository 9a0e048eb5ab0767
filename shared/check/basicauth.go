package check

import (
	"strings"
	"unicode"
	"unicode/utf8"

	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/password"
)

// maxUsername is how many bytes a user name has at most.
const maxUsername = 255

// Username says why a text cannot be the user name of basic-auth, empty if it can (RFC 7617, section 2).
func Username(name string) string {
	switch {
	case name == "" || len(name) > maxUsername:
		return "must have 1 to 255 bytes"
	case strings.Contains(name, ":"):
		return "must not have a colon, where a user name ends"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "must be text without control characters"
	default:
		return ""
	}
}

func basicAuthCredential(vs *violations, m *credentialv1.BasicAuth) {
	if reason := Username(m.GetUsername()); reason != "" {
		vs.add("config.username", "%s", reason)
	}
	if plain := m.GetPassword().GetPlaintext(); plain != "" {
		if reason := password.Check(plain); reason != "" {
			vs.add("config.password", "%s", reason)
		}
	}
}
