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

	"github.com/jackc/pgx/v5"

	"keyward.dev/controlplane/app"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/vaulttest"
)

// made is a Vault that makes logins to a database, and how to refer to their fields.
func made(t *testing.T, db *storetest.DB, ttl, maxTTL time.Duration) (reference func(field string) settings.Secret) {
	t.Helper()
	v := vaulttest.Start(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(v.Issue(v.Logins(db.Owner, db.RuntimeRole, ttl, maxTTL), time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(field string) settings.Secret {
		s, err := settings.Refer(fmt.Sprintf("{vault:%s/database/creds/keyward?engine=database&ca=%s&token-file=%s#%s}",
			v.Address, v.CA, token, field), env(nil))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// TestLoginsThatVaultMakesAreForTheDatabaseOnly has user and password of one login, and refuses all that would be of two, or of
// none.
func TestLoginsThatVaultMakesAreForTheDatabaseOnly(t *testing.T) {
	t.Parallel()
	in := func(place, field string) settings.Secret {
		s, err := settings.Refer("{vault://v.test/database/creds/"+place+"?engine=database&auth=kubernetes&role=r#"+field+"}", env(nil))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plain := settings.NewSecret
	for _, tt := range []struct {
		name                string
		url, user, password settings.Secret
		want                string
	}{
		{"one login", plain("u"), in("web", "username"), in("web", "password"), ""},
		{"none that is made", plain("u"), plain("me"), plain("word"), ""},
		{"two logins", plain("u"), in("web", "username"), in("other", "password"), "have to come from one login"},
		{"a password alone", plain("u"), settings.Secret{}, in("web", "password"), "have to come from one login"},
		{"a user alone", plain("u"), in("web", "username"), settings.Secret{}, "needs database-password"},
		{"another's password", plain("u"), in("web", "username"), plain("word"), "have to come from one login"},
		{"the URL", in("web", "username"), settings.Secret{}, settings.Secret{}, "can be database-user and database-password only"},
	} {
		c := app.CheckDB{
			Database: app.Database{URL: tt.url, User: tt.user, Password: tt.password},
			KEK:      app.KEK{Lookup: func(name string) (string, bool) { return strings.Repeat("5f", 32), name == "KEYWARD_KEK" }},
		}
		if err := c.Check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	m := app.Migrate{Database: app.Database{URL: plain("u"), User: in("web", "username"), Password: in("web", "password")}}
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "the tables would belong to it") {
		t.Errorf("migrate: %v", err)
	}
	m = app.Migrate{Database: app.Database{URL: plain("u")}, RuntimePassword: in("web", "password")}
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "is of what Vault makes") {
		t.Errorf("migrate: %v", err)
	}
}

// TestAReplicaServesAsWhomVaultMakes has the logins of a replica end every few seconds. It is ready all the time, and leaves no
// login behind.
func TestAReplicaServesAsWhomVaultMakes(t *testing.T) {
	t.Parallel()
	db, kek := storetest.Empty(t), strings.Repeat("5f", 32)
	m := app.Migrate{Database: app.Database{URL: settings.NewSecret(db.Owner)}, RuntimeRole: db.RuntimeRole}
	if err := m.Run(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	bootstrap(t, db, kek, settings.Secret{})
	in := made(t, db, 4*time.Second, 8*time.Second)
	s, status := replica(t, kek)
	nobody := strings.Replace(db.Runtime, "://"+db.RuntimeRole+":", "://nobody:", 1)
	s.Database = app.Database{URL: settings.NewSecret(nobody), User: in("username"), Password: in("password")}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	log := &bytes.Buffer{}
	go func() { done <- app.Serve(ctx, s, slog.New(slog.NewTextHandler(log, nil))) }()
	conn, users := db.Conn(t), map[string]bool{}
	testkit.Await(t, 60*time.Second, func() error {
		select {
		case err := <-done:
			t.Fatalf("Serve() = %v", err)
		default:
		}
		err := answers(t, status, http.StatusOK, "")
		if err != nil && len(users) > 0 {
			t.Fatalf("it was ready, and is no longer: %v", err)
		}
		if err != nil {
			return err
		}
		for _, name := range members(t, conn, db.RuntimeRole) {
			users[name] = true
		}
		if len(users) < 3 {
			return fmt.Errorf("there were the users %v", users)
		}
		return nil
	})
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	testkit.Await(t, 20*time.Second, func() error { // what was exchanged ends by itself
		if names := members(t, conn, db.RuntimeRole); len(names) > 0 {
			return fmt.Errorf("%q are left", names)
		}
		return nil
	})
	if strings.Contains(log.String(), "permission denied") || strings.Contains(log.String(), "authentication failed") {
		t.Errorf("a login was used after its end:\n%s", log)
	}
}

// members are the users of a role that are there.
func members(t *testing.T, conn *pgx.Conn, role string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select m.rolname from pg_auth_members a
		join pg_roles m on m.oid = a.member join pg_roles r on r.oid = a.roleid where r.rolname = $1`, role)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}
