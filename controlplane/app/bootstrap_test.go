package app_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/app"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
)

// handedIn is a token as a mounted Secret holds it.
var handedIn = settings.NewSecret("kwa_" + strings.Repeat("A", 12) + "_" + strings.Repeat("b", 32))

type answer struct {
	Token       string `json:"token"`
	TrustBundle string `json:"trust_bundle"`
}

func bootstrap(t *testing.T, db *storetest.DB, kek string, token settings.Secret) answer {
	t.Helper()
	b := app.Bootstrap{
		Database: app.Database{URL: settings.NewSecret(db.Runtime)}, Group: "default", TrustDomain: "keyward.test", Token: token,
		KEK: app.KEK{Lookup: func(name string) (string, bool) { return kek, name == "KEYWARD_KEK" }},
	}
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.Run(t.Context(), &out, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestBootstrapIsDoneOnceAndShowsItsTokenOnce(t *testing.T) {
	t.Parallel()
	db, kek := storetest.New(t), strings.Repeat("5f", 32)
	first := bootstrap(t, db, kek, settings.Secret{})
	second := bootstrap(t, db, kek, settings.Secret{})
	if first.Token == "" || second.Token != "" {
		t.Errorf("tokens shown: %t, then %t; want the first time only", first.Token != "", second.Token != "")
	}
	if first.TrustBundle == "" || first.TrustBundle != second.TrustBundle {
		t.Error("the trust bundle changed, or there is none")
	}
}

func TestADeletedTokenIsNotTakenBack(t *testing.T) {
	t.Parallel()
	db, kek := storetest.New(t), strings.Repeat("5f", 32)
	if a := bootstrap(t, db, kek, handedIn); a.Token != "" {
		t.Error("a token that was handed in is shown")
	}
	db.Exec(t, `update admin_tokens set deleted_at = now()`)
	bootstrap(t, db, kek, handedIn)
	live, err := db.Store.AdminTokens(t.Context())
	if err != nil || len(live) != 0 {
		t.Errorf("live tokens %v, %v; want none", live, err)
	}
}

func TestSettingsNameEveryFault(t *testing.T) {
	t.Parallel()
	s := app.Settings{
		AdminListen: "nonsense", SyncListen: "127.0.0.1:0", StatusListen: "127.0.0.1:0", AdminCert: filepath.Join(t.TempDir(), "c"),
		K8s: app.K8s{Issuer: "https://issuer.test"},
	}
	s.KEK.Lookup = func(string) (string, bool) { return "", false }
	s.Keyrings = app.Keyrings{MaxAge: time.Second, MaxSeals: -1}
	err := s.Check()
	if err == nil {
		t.Fatal("settings that are all wrong were accepted")
	}
	for _, want := range []string{"database-url", "kek-file", "admin-listen", "admin-tls-cert", "certificate-ttl", "stream-max-age", "full-sets", "k8s-issuer", "k8s-allow", "keyring-max-age", "keyring-max-seals"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in\n%v", want, err)
		}
	}
}

func TestCheckDBNamesWhatDoesNotVerify(t *testing.T) {
	t.Parallel()
	kek := strings.Repeat("5f", 32)
	cases := []struct {
		name, statement string
		want            string
	}{
		{"an intact installation", `select 1`, "default: ok, revision 1"},
		{"a resource that was changed", `update resources set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where kind = 'settings'`, "settings"},
		{"an audit row that was changed", `update audit set actor = 'somebody else' where seq = 1`, "audit chain, row 1"},
		{"a bundle key of somebody's own", `insert into bundle_keys select uid, 1, sealed, now() from certificate_authorities, groups where name = 'default' limit 1`, "bundle key"},
		{"a head that was changed", `update heads set revision = 7 where revision = 1`, "default"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := storetest.New(t)
			bootstrap(t, db, kek, settings.Secret{})
			db.Exec(t, c.statement)
			check := app.CheckDB{
				Database: app.Database{URL: settings.NewSecret(db.Runtime)},
				KEK:      app.KEK{Lookup: func(name string) (string, bool) { return kek, name == "KEYWARD_KEK" }},
			}
			var out bytes.Buffer
			err := check.Run(t.Context(), &out)
			if !strings.Contains(out.String(), c.want) || (err == nil) != strings.HasPrefix(c.name, "an intact") {
				t.Errorf("check-db: %v, said\n%swant %q", err, out.String(), c.want)
			}
		})
	}
}
