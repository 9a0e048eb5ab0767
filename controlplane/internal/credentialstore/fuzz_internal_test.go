package credentialstore

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/check/tokenpair"
)

// FuzzEntry reads entries as anybody who writes to Vault could make them: what comes of one can be hashed and compared, and what is
// wrong with one is told without it.
func FuzzEntry(f *testing.F) {
	f.Add("name", `{"access_token": "a", "secret_token": "11XYyybbu3Ty0Qt4ImIshPGQ0WsvjLzl", "consumer": {"id": "alice"}, "ttl": 60, "created_at": 1550538920}`)
	f.Add("a/b", `{"secret_token": "x", "consumer": "{\"id\": 7}", "ttl": "1e99"}`)
	f.Add("", `{"secret_token": null, "consumer": [], "ttl": {}, "created_at": true}`)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, name, text string) {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber() // as Vault's library does
		var data map[string]any
		if d.Decode(&data) != nil {
			t.Skip()
		}
		for _, weak := range []bool{false, true} {
			p, err := parse(name, secretsource.Entry{Data: data, Created: now}, &configv1.CredentialStore{AllowWeak: weak})
			if err == nil && (!tokenpair.Token(p.access) || !tokenpair.Token(p.secret) || p.named == "" || p.expires.Year() > 9999) {
				t.Errorf("%q is taken as %+v", text, p)
			}
			secret, _ := data["secret_token"].(string)
			if err != nil && len(secret) > 12 && strings.Contains(err.Error(), secret) {
				t.Errorf("%v repeats the secret", err)
			}
		}
	})
}
