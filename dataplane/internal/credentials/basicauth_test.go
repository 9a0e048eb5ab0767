package credentials_test

import (
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/credentials"
	"keyward.dev/dataplane/internal/exchange"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/password"
)

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	hash := func(text string) *configv1.Secret {
		return &configv1.Secret{Value: &configv1.Secret_PasswordHash{PasswordHash: &configv1.PasswordHash{Text: text}}}
	}
	const good = "$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2"
	for _, tt := range []struct {
		name, user string
		password   *configv1.Secret
		reason     string
	}{
		{"a hash", "alice", hash(good), ""},
		{"a hash that costs too much", "alice", hash(strings.Replace(good, "$10$", "$13$", 1)), "has cost 13"},
		{"a password in the clear", "alice", &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: "correct horse"}}, "is none of"},
		{"no password", "alice", nil, "is none of"},
		{"no name", "", hash(good), "no name"},
	} {
		m := &configv1.Credential{Name: "k", Consumer: "a", Type: "basic-auth"}
		c, reason := credentials.Read(m, &credentialv1.BasicAuth{Username: tt.user, Password: tt.password}, true)
		if !strings.Contains(reason, tt.reason) || (reason == "") != (tt.reason == "") || strings.Contains(reason, "horse") {
			t.Errorf("%s: %q", tt.name, reason)
		}
		if reason != "" {
			continue
		}
		h, ok := c.Material.(*password.Hash)
		if !ok || h.String() != good || c.Subject != tt.user || c.Hash != exchange.NameHash("basic-auth", []byte(tt.user)) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}
