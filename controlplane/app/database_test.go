package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/app"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/pgtest"
	"keyward.dev/shared/testkit/vaulttest"
)

// kept is a Vault with the settings of a database in the secret kv/keyward, and how to refer to its fields.
func kept(t *testing.T, dsn string) (v *vaulttest.Server, reference func(field string) settings.Secret) {
	t.Helper()
	v = vaulttest.Start(t)
	v.Write("sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Write("kv/data/keyward", map[string]any{"data": map[string]any{"url": dsn, "number": 7}})
	v.Write("sys/policies/acl/keyward", map[string]any{"policy": `path "kv/data/keyward" { capabilities = ["read"] }`})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(v.Issue("keyward", time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	return v, func(field string) settings.Secret {
		s, err := settings.Refer(fmt.Sprintf("{vault:%s/kv/%s&ca=%s&token-file=%s#%s}", v.Address, "keyward?kv=2", v.CA, token, field), env(nil))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// TestTheDatabaseIsReachedByWhatVaultKeeps has check-db take its settings from a real Vault.
func TestTheDatabaseIsReachedByWhatVaultKeeps(t *testing.T) {
	t.Parallel()
	db, kek := storetest.New(t), strings.Repeat("5f", 32)
	bootstrap(t, db, kek, settings.Secret{})
	v, in := kept(t, db.Runtime)
	check := func(url, password settings.Secret) error {
		c := app.CheckDB{Database: app.Database{URL: url, Password: password}, KEK: app.KEK{Lookup: func(name string) (string, bool) { return kek, name == "KEYWARD_KEK" }}}
		if err := c.Check(); err != nil {
			return err
		}
		return c.Run(t.Context(), io.Discard)
	}
	for _, tt := range []struct {
		name          string
		url, password settings.Secret
		want          string
	}{
		{name: "its URL", url: in("url")},
		{name: "a field that is not there", url: in("absent"), want: "database-url: vault:kv/keyward#absent: there is nothing"},
		{name: "one that is no text", url: in("number"), want: "database-url: vault:kv/keyward#number: there is nothing"},
		{name: "the password, which is not there", url: settings.NewSecret(db.Runtime), password: in("absent"), want: "database-password: vault:kv/keyward#absent"},
	} {
		if err := check(tt.url, tt.password); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	v.Seal()
	if err := check(in("url"), settings.Secret{}); err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("with a sealed Vault: %v", err)
	}
}

// TestAReplicaWaitsForWhoKeepsItsSettings starts one while Vault is sealed.
func TestAReplicaWaitsForWhoKeepsItsSettings(t *testing.T) {
	t.Parallel()
	db, kek := storetest.Empty(t), strings.Repeat("5f", 32)
	m := app.Migrate{Database: app.Database{URL: settings.NewSecret(db.Owner)}, RuntimeRole: db.RuntimeRole}
	if err := m.Run(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	bootstrap(t, db, kek, settings.Secret{})
	v, in := kept(t, db.Runtime)
	v.Seal()
	s, status := replica(t, kek)
	s.Database = app.Database{URL: in("url")}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Serve(ctx, s, slog.New(slog.DiscardHandler)) }()
	awaitReady(t, done, status, 503, "waiting for who keeps a secret")
	v.Unseal()
	awaitReady(t, done, status, 200, "")
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
}

// replica are settings of a replica without a database, and where it tells its status.
func replica(t *testing.T, kek string) (s app.Settings, status string) {
	t.Helper()
	status = testkit.Addr(t)
	s = app.Settings{
		KEK:         app.KEK{Lookup: func(name string) (string, bool) { return kek, name == "KEYWARD_KEK" }},
		AdminListen: "127.0.0.1:0", SyncListen: "127.0.0.1:0", StatusListen: status, TrustDomain: "keyward.test", Replica: "r",
		CertTTL: time.Hour, StreamMaxAge: time.Hour, FullSets: 128, Tickets: app.Tickets{Rotation: time.Hour}, Keyrings: app.Keyrings{MaxAge: 24 * time.Hour}, Retention: app.Retention{HistoryKeep: 10000, Interval: time.Minute},
		Bundles: app.Bundles{Interval: time.Minute, TTL: time.Hour},
	}
	return s, status
}

// awaitReady waits until a replica that runs is ready, or not.
func awaitReady(t *testing.T, done <-chan error, status string, code int, why string) {
	t.Helper()
	testkit.Await(t, 30*time.Second, func() error {
		select {
		case err := <-done:
			t.Fatalf("Serve() = %v", err)
		default:
		}
		return answers(t, status, code, why)
	})
}

// answers asks whether a replica is ready.
func answers(t *testing.T, status string, code int, why string) error {
	t.Helper()
	resp, err := http.Get("http://" + status + "/readyz") //nolint:noctx // on this machine
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != code || !strings.Contains(string(body), why) {
		return fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	return nil
}

// rotating is a database whose runtime role may write to the table load, and no connection to it lives long.
func rotating(t *testing.T) (db *storetest.DB, dsn string) {
	t.Helper()
	db = storetest.Empty(t)
	db.Migrate(t)
	db.Exec(t, "create table load (n int)", "grant insert on load to "+db.RuntimeRole)
	return db, db.Runtime + "&pool_max_conn_lifetime=50ms&pool_max_conns=8"
}

// TestThePasswordOfTheDatabaseIsReadForEachConnection exchanges the role's password and a file, again and again.
func TestThePasswordOfTheDatabaseIsReadForEachConnection(t *testing.T) {
	t.Parallel()
	server := pgtest.ForTest(t)
	db, dsn := rotating(t)
	file := filepath.Join(t.TempDir(), "password")
	exchange := func(password string) {
		t.Helper()
		next := file + ".next" // as a mounted Secret is exchanged
		if err := errors.Join(os.WriteFile(next, []byte(password+"\n"), 0o600), os.Rename(next, file)); err != nil {
			t.Fatal(err)
		}
		if err := server.Exec(t.Context(), "postgres", fmt.Sprintf("alter role %s password '%s'", db.RuntimeRole, password)); err != nil {
			t.Fatal(err)
		}
	}
	exchange("rotated-0")
	password, err := settings.Refer("{file://"+file+"}", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	d := app.Database{URL: settings.NewSecret(dsn), Password: password}
	s, err := d.Open(t.Context(), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 10 {
		exchange(fmt.Sprintf("rotated-%d", i))
		s.Pool().Reset() // connections that are there would go on
		write(t, s, 8, 5)
	}
	if strings.Contains(log.String(), "rotated-") {
		t.Error("the log tells a password")
	}
}

// TestTheRoleOfTheDatabaseChangesUnderLoad has Vault name now one and now another of two roles, as with secrets that it makes,
// while writers go on and connections are made anew all the time. No write fails at any moment, nor while Vault is sealed.
func TestTheRoleOfTheDatabaseChangesUnderLoad(t *testing.T) {
	t.Parallel()
	server := pgtest.ForTest(t)
	db, blue := rotating(t)
	role, password := server.NewRole(t)
	db.Exec(t, fmt.Sprintf("grant %s to %s", db.RuntimeRole, role))
	green := strings.Replace(blue, db.Runtime, server.URLFor(pgtest.DatabaseOf(db.Runtime), role, password), 1)
	v, in := kept(t, blue)
	d := app.Database{URL: in("url")}
	s, err := d.Open(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 8 {
		done := make(chan struct{})
		go func() { defer close(done); write(t, s, 8, 60) }()
		v.Write("kv/data/keyward", map[string]any{"data": map[string]any{"url": []string{green, blue}[i%2]}})
		<-done
	}
	s.Pool().Reset() // those from before the last change are good as well
	var user string
	if err := s.Pool().QueryRow(t.Context(), "select current_user").Scan(&user); err != nil || user != db.RuntimeRole {
		t.Errorf("connected as %s, %v, want %s", user, err, db.RuntimeRole)
	}
	v.Seal()
	s.Pool().Reset()
	write(t, s, 8, 20)
}

// write writes from several connections at once.
func write(t *testing.T, s *store.Store, writers, each int) {
	t.Helper()
	failed := make(chan error)
	for range writers {
		go func() {
			var errs []error
			for range each {
				_, err := s.Pool().Exec(t.Context(), "insert into load values (1)")
				errs = append(errs, err)
			}
			failed <- errors.Join(errs...)
		}()
	}
	for range writers {
		if err := <-failed; err != nil {
			t.Errorf("a write failed: %v", err)
		}
	}
}
