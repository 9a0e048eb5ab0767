package app_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/app"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/testkit/vaulttest"
)

// keptKeys is a Vault with keys in the secret kv/kek, and how to refer to its fields, in two forms.
func keptKeys(t *testing.T, fields map[string]any) (v *vaulttest.Server, reference, uri func(field string) string) {
	t.Helper()
	v = vaulttest.Start(t)
	v.Write("sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Write("kv/data/kek", map[string]any{"data": fields})
	v.Write("sys/policies/acl/kek", map[string]any{"policy": `path "kv/data/kek" { capabilities = ["read"] }`})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(v.Issue("kek", time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(field string) string {
		return fmt.Sprintf("%s/kv/kek?ca=%s&token-file=%s#%s", v.Address, v.CA, token, field)
	}
	return v, func(field string) string { return "{vault:" + at(field) + "}" }, func(field string) string { return "vaultkv:" + at(field) }
}

// TestTheKeyIsKeptInVault has a real Vault keep it in every form, under which the keyrings of a database are.
func TestTheKeyIsKeptInVault(t *testing.T) {
	t.Parallel()
	db, key, newer := storetest.New(t), kekText("o"), kekText("n")
	bootstrap(t, db, key, settings.Secret{})
	v, in, uri := keptKeys(t, map[string]any{
		"key": key, "newer": newer, "keys": newer + "\n" + key + "\n", "twice": key + "\n" + key, "canary": "canary-of-a-key-that-is-none", "number": 7,
	})
	check := func(k app.KEK) (string, error) {
		c := app.CheckDB{Database: app.Database{URL: settings.NewSecret(db.Runtime)}, KEK: k}
		if err := c.Check(); err != nil {
			return "", err
		}
		var out bytes.Buffer
		err := c.Run(t.Context(), &out)
		return out.String(), err
	}
	variable := func(name, text string) app.KEK { return app.KEK{Lookup: env(map[string]string{name: text})} }
	for _, tt := range []struct {
		name         string
		kek          app.KEK
		want, refuse string
	}{
		{name: "a reference", kek: variable("KEYWARD_KEK", in("key")), want: "(current): 2 keyrings\n"},
		{name: "a URI", kek: app.KEK{URI: uri("key"), Lookup: env(nil)}, want: "(current): 2 keyrings\n"},
		{name: "a list", kek: variable("KEYWARD_KEK_KEYS", in("keys")), want: "(retired): 2 keyrings"},
		{name: "a retired one", kek: app.KEK{URI: uri("newer"), Retired: []string{uri("key")}, Lookup: env(nil)}, want: "(retired): 2 keyrings"},
		{name: "a later one", kek: app.KEK{URI: uri("newer"), Next: []string{uri("key")}, Lookup: env(nil)}, want: "(next): 2 keyrings"},
		{name: "another key", kek: variable("KEYWARD_KEK", in("newer")), want: "(missing): 2 keyrings", refuse: "not open"},
		{name: "a field that is not there", kek: variable("KEYWARD_KEK", in("absent")), refuse: "KEYWARD_KEK: vault:kv/kek#absent: there is nothing"},
		{name: "a number", kek: variable("KEYWARD_KEK", in("number")), refuse: "KEYWARD_KEK: vault:kv/kek#number: there is nothing"},
		{name: "what is no key", kek: variable("KEYWARD_KEK", in("canary")), refuse: "KEYWARD_KEK: key-encryption key is not 32 bytes"},
		{name: "a list with one twice", kek: variable("KEYWARD_KEK_KEYS", in("twice")), refuse: "given twice"},
		{name: "the same from two places", kek: app.KEK{URI: uri("key"), Retired: []string{"env:OLD"}, Lookup: env(map[string]string{"OLD": key})}, refuse: "given twice"},
	} {
		out, err := check(tt.kek)
		if !strings.Contains(out, tt.want) || (tt.refuse == "") != (err == nil) {
			t.Errorf("%s: %v, and said\n%s", tt.name, err, out)
		}
		if err != nil && tt.refuse != "not open" && !strings.Contains(err.Error(), tt.refuse) || strings.Contains(fmt.Sprint(err), "canary-of") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.refuse)
		}
	}
	v.Seal()
	if _, err := check(variable("KEYWARD_KEK", in("key"))); err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("with a sealed Vault: %v", err)
	}
}

// TestAReplicaWaitsForItsKey starts one while Vault is sealed. Once it has the key it needs Vault no more.
func TestAReplicaWaitsForItsKey(t *testing.T) {
	t.Parallel()
	db, key := storetest.Empty(t), kekText("o")
	m := app.Migrate{Database: app.Database{URL: settings.NewSecret(db.Owner)}, RuntimeRole: db.RuntimeRole}
	if err := m.Run(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	bootstrap(t, db, key, settings.Secret{})
	v, in, _ := keptKeys(t, map[string]any{"key": key})
	v.Seal()
	s, status := replica(t, "")
	s.Database, s.KEK = app.Database{URL: settings.NewSecret(db.Runtime)}, app.KEK{Lookup: env(map[string]string{"KEYWARD_KEK": in("key")})}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Serve(ctx, s, slog.New(slog.DiscardHandler)) }()
	awaitReady(t, done, status, http.StatusServiceUnavailable, "waiting for the key-encryption key")
	v.Unseal()
	awaitReady(t, done, status, http.StatusOK, "")
	v.Seal()
	awaitReady(t, done, status, http.StatusOK, "")
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	v.Unseal()
	s.KEK.Lookup = env(map[string]string{"KEYWARD_KEK": in("absent")})
	if err := app.Serve(t.Context(), s, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "KEYWARD_KEK: vault:kv/kek#absent") {
		t.Errorf("with a reference that leads nowhere Serve() = %v", err)
	}
}
