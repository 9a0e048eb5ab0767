package uri_test

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/kek/uri"
)

var raw = []byte("0123456789abcdef0123456789ABCDEF")

func lookup(name string) (string, bool) {
	value, ok := map[string]string{
		"OLD_KEK": hex.EncodeToString(raw), "BAD_KEK": "short", "VAULT_TOKEN_TEXT": "hvs.token", "SECRET_ID": "secret",
	}[name]
	return value, ok
}

func TestOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(raw)), 0o600); err != nil {
		t.Fatal(err)
	}
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for text, want := range map[string]struct {
		id   string
		runs bool
	}{
		"file:" + path: {"file:", false},
		"env:OLD_KEK":  {"file:", false},
		"vault:https://vault.example:8200/transit/keyward?token-env=VAULT_TOKEN_TEXT":                                {"vault:transit/keyward", true},
		"vault:https://vault.example/a/b/keyward?auth=approle&role-id=r&secret-id-env=SECRET_ID&auth-mount=other":    {"vault:a/b/keyward", true},
		"vault:https://10.0.0.1:8200/transit/k?auth=kubernetes&role=r&namespace=team&timeout=2s&server-name=v.local": {"vault:transit/k", true},
		"awskms:" + arn: {"awskms:" + arn, false},
		"awskms:" + arn + "?endpoint=https://kms.internal": {"awskms:" + arn, false},
	} {
		l, err := uri.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		s, err := l.Open(lookup)
		if err != nil || !strings.HasPrefix(s.ID(), want.id) || (s.Run != nil) != want.runs {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
}

func TestWhatIsNotMeantIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "no kind": "/etc/kek", "no place": "file:", "another kind": "gcpkms:projects/p", "a key": hex.EncodeToString(raw),
		"no file":                   "file:/nonexistent/kek",
		"no variable":               "env:NOT_THERE",
		"a variable without key":    "env:BAD_KEK",
		"no key":                    "vault:https://vault.example/transit?token-env=VAULT_TOKEN_TEXT",
		"no mount":                  "vault:https://vault.example/keyward?token-env=VAULT_TOKEN_TEXT",
		"a way out":                 "vault:https://vault.example/transit/../sys/keyward?token-env=VAULT_TOKEN_TEXT",
		"no host":                   "vault:/transit/keyward?token-env=VAULT_TOKEN_TEXT",
		"plain http":                "vault:http://vault.example/transit/keyward?token-env=VAULT_TOKEN_TEXT",
		"a password":                "vault:https://u:hunter2@vault.example/transit/keyward?token-env=VAULT_TOKEN_TEXT",
		"a token":                   "vault:https://vault.example/transit/keyward?token=hunter2",
		"no token":                  "vault:https://vault.example/transit/keyward",
		"an empty token":            "vault:https://vault.example/transit/keyward?token-env=NOT_THERE",
		"two tokens":                "vault:https://vault.example/transit/keyward?token-env=VAULT_TOKEN_TEXT&token-file=hunter2",
		"another way's parameter":   "vault:https://vault.example/transit/keyward?token-env=VAULT_TOKEN_TEXT&role-id=hunter2",
		"another way":               "vault:https://vault.example/transit/keyward?auth=ldap",
		"no role":                   "vault:https://vault.example/transit/keyward?auth=approle&secret-id-env=SECRET_ID",
		"twice":                     "vault:https://vault.example/transit/keyward?token-env=A&token-env=B",
		"a broken parameter":        "vault:https://vault.example/transit/keyward?token-env=%zz",
		"an endless timeout":        "vault:https://vault.example/transit/keyward?token-env=VAULT_TOKEN_TEXT&timeout=1h",
		"an alias":                  "awskms:arn:aws:kms:eu-central-1:111122223333:alias/keyward",
		"another parameter of KMS":  "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234?secret=hunter2",
		"an endpoint without TLS":   "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234?endpoint=http://kms",
		"a CA that is not there":    "vault:https://vault.example/transit/k?token-env=VAULT_TOKEN_TEXT&ca=/nonexistent",
		"a fragment behind the key": "vault:https://vault.example/transit/k#hunter2",
	} {
		l, err := uri.Parse(text)
		if err == nil {
			_, err = l.Open(lookup)
		}
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), string(raw)) {
			t.Errorf("%s: the error quotes it: %v", name, err)
		}
	}
}

// FuzzParse looks for names that are read and then open nothing sensible.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"file:/etc/kek", "env:KEK", "vault:https://v:8200/transit/k?token-env=VAULT_TOKEN_TEXT", "awskms:arn:aws:kms:eu-1:111122223333:key/1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := uri.Parse(text)
		if err != nil {
			if len(text) > 30 && strings.Contains(err.Error(), text) {
				t.Errorf("the error quotes %q", text)
			}
			return
		}
		if strings.HasPrefix(text, "file:") { // whatever is there is not this test's
			return
		}
		s, err := l.Open(lookup)
		if err == nil && (s.Wrapper == nil || s.ID() == "") {
			t.Errorf("%q opens a key without name", text)
		}
	})
}
