package vaultlease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/controlplane/internal/vaultkv"
	"keyward.dev/controlplane/internal/vaultlease"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/vaulttest"
)

func lookup(name string) (string, bool) { return "the-token", name == "TOKEN" }

func TestOpen(t *testing.T) {
	t.Parallel()
	const login = "engine=database&token-env=TOKEN"
	for _, tt := range []struct{ name, text, want string }{
		{"a field", "https://v.test/database/creds/web?" + login + "#username", ""},
		{"a deep mount", "https://v.test/team/database/creds/web?" + login + "#username", ""},
		{"no field", "https://v.test/database/creds/web?" + login, "is not of the form"},
		{"a field that is a path", "https://v.test/database/creds/web?" + login + "#a/b", "is not of the form"},
		{"no role", "https://v.test/database/creds?" + login + "#username", "is not of the form"},
		{"another path", "https://v.test/database/config/web?" + login + "#username", "is not of the form"},
		{"a detour", "https://v.test/database/creds/../creds/web?" + login + "#username", "is not of the form"},
		{"another engine", "https://v.test/database/creds/web?token-env=TOKEN&engine=kv#username", "engine must be"},
		{"an unknown parameter", "https://v.test/database/creds/web?color=red&" + login + "#username", `no parameter "color"`},
		{"in the clear", "http://v.test/database/creds/web?" + login + "#username", "https"},
		{"no way to log in", "https://v.test/database/creds/web?engine=database#username", "token"},
		{"a password", "https://user:canary@v.test/database/creds/web?" + login + "#username", "is not of the form"},
	} {
		_, err := vaultlease.Open(tt.text, lookup)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add("https://v.test/database/creds/web?engine=database&token-env=TOKEN#username")
	f.Add("https://v.test/kv/db?kv=1#url")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := vaultlease.Open(text, lookup)
		if _, _, leased := vaultlease.Split(text); err == nil && (h == nil || !leased) {
			t.Errorf("Open(%q) = %v, and Split says %v", text, h, leased)
		}
	})
}

// world is a database, and a Vault that makes logins to it.
type world struct {
	db     *storetest.DB
	conn   *pgx.Conn
	vault  *vaulttest.Server
	policy string
}

func newWorld(t *testing.T, ttl, maxTTL time.Duration) *world {
	t.Helper()
	w := &world{db: storetest.Empty(t), vault: vaulttest.Start(t)}
	w.db.Migrate(t)
	w.conn = w.db.Conn(t)
	w.db.Exec(t, "create table load (n int)", "grant insert on load to "+w.db.RuntimeRole)
	w.policy = w.vault.Logins(w.db.Owner, w.db.RuntimeRole, ttl, maxTTL)
	return w
}

// hold has a login of its own to Vault, by AppRole.
func (w *world) hold(t *testing.T, ttl, maxTTL time.Duration) *vaultlease.Held {
	t.Helper()
	role, secret := w.vault.AppRole(w.policy, ttl, maxTTL)
	file := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := vaultlease.Open(fmt.Sprintf("%s/database/creds/keyward?engine=database&ca=%s&auth=approle&role-id=%s&secret-id-file=%s#username",
		w.vault.Address, w.vault.CA, role, file), lookup)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// run runs it until the function that is answered is called.
func run(t *testing.T, h *vaultlease.Held) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, slog.New(slog.DiscardHandler)) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
}

// logins are the users that Vault has made and not removed, of this test's role.
func (w *world) logins(t *testing.T) (names []string) {
	t.Helper()
	rows, err := w.conn.Query(t.Context(), `select m.rolname from pg_auth_members a
		join pg_roles m on m.oid = a.member join pg_roles r on r.oid = a.roleid where r.rolname = $1`, w.db.RuntimeRole)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func username(t *testing.T, h *vaultlease.Held) string {
	t.Helper()
	got, err := h.Read(t.Context(), "username", "password")
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

// TestALoginIsMadeOnceAndGivenBack reads fields again and again, and at the end the login is gone from the database.
func TestALoginIsMadeOnceAndGivenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour, time.Hour)
	h := w.hold(t, time.Hour, time.Hour)
	first := username(t, h)
	for range 5 {
		if again := username(t, h); again != first {
			t.Errorf("made %s, and then %s", first, again)
		}
	}
	if _, err := h.Read(t.Context(), "username", "absent"); err == nil || !strings.Contains(err.Error(), "vault:database/creds/keyward#absent: there is nothing") {
		t.Errorf("a field that is not there: %v", err)
	}
	if got := w.logins(t); len(got) != 1 || got[0] != first {
		t.Errorf("the database has %q", got)
	}
	if h.Replaced("username", first) || !h.Replaced("username", "another") {
		t.Error("Replaced does not tell the login that is held from another")
	}
	if err := errors.Join(h.Return(t.Context()), h.Return(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := w.logins(t); len(got) != 0 {
		t.Errorf("after it was given back the database has %q", got)
	}
}

// TestALeaseIsRenewed has one that lasts for two seconds, and for long if it is renewed.
func TestALeaseIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2*time.Second, time.Hour)
	h := w.hold(t, time.Hour, time.Hour)
	stop := run(t, h)
	first := username(t, h)
	end := time.Now().Add(6 * time.Second)
	testkit.Await(t, 20*time.Second, func() error {
		if again := username(t, h); again != first {
			t.Fatalf("made %s, and then %s", first, again)
		}
		if time.Now().Before(end) {
			return errors.New("not yet three lives later")
		}
		return nil
	})
	stop()
}

// TestLoginsAreExchangedUnderLoad writes all the time while logins end, by their longest life and with the login to Vault, and
// are taken away by somebody. No write fails.
func TestLoginsAreExchangedUnderLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                                string
		ttl, maxTTL, loginTTL, loginMaximum time.Duration
	}{
		{"at the end of the longest life", 6 * time.Second, 12 * time.Second, time.Hour, time.Hour},
		{"when the login to Vault is replaced", time.Hour, time.Hour, 12 * time.Second, 18 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.ttl, tt.maxTTL)
			h := w.hold(t, tt.loginTTL, tt.loginMaximum)
			stop := run(t, h)
			s, err := store.Open(t.Context(), store.Config{
				DSN: w.db.Runtime, MaxConns: 4,
				Login: func(ctx context.Context) store.Login {
					got, err := h.Read(ctx, "username", "password")
					if err != nil {
						t.Errorf("Read() = %v", err)
						return store.Login{}
					}
					return store.Login{User: got[0], Password: settings.NewSecret(got[1])}
				},
				Outdated: func(user string) bool { return h.Replaced("username", user) },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			users, first := map[string]bool{}, ""
			testkit.Await(t, 60*time.Second, func() error {
				for range 20 {
					var user string
					if err := s.Pool().QueryRow(t.Context(), "with w as (insert into load values (1)) select current_user").Scan(&user); err != nil {
						t.Fatalf("a write failed: %v", err)
					}
					if first == "" {
						first = user
					}
					users[user] = true
				}
				names := strings.Join(w.logins(t), " ")
				if len(users) < 2 || strings.Contains(names, first) {
					return fmt.Errorf("there were the users %v; %s are there", users, names)
				}
				return nil
			})
			stop()
		})
	}
}

// TestALoginThatWasTakenAwayIsReplaced revokes what Vault made, which the next look finds out.
func TestALoginThatWasTakenAwayIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8*time.Second, time.Hour)
	h := w.hold(t, time.Hour, time.Hour)
	stop := run(t, h)
	first := username(t, h)
	w.vault.Write("sys/leases/revoke-prefix/database/creds/keyward", nil)
	testkit.Await(t, 20*time.Second, func() error {
		if username(t, h) == first {
			return errors.New("it is held on")
		}
		return nil
	})
	stop()
}

// TestWhileVaultIsSealed has what is held used until its end, then nothing, and a new one when Vault is back.
func TestWhileVaultIsSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Second, time.Hour)
	h := w.hold(t, time.Hour, time.Hour)
	stop := run(t, h)
	username(t, h)
	w.vault.Seal()
	username(t, h)
	testkit.Await(t, 20*time.Second, func() error {
		if _, err := h.Read(t.Context(), "username"); !errors.Is(err, vaultlease.ErrDown) {
			return fmt.Errorf("Read() = %w", err)
		}
		return nil
	})
	w.vault.Unseal()
	testkit.Await(t, 60*time.Second, func() error {
		_, err := h.Read(t.Context(), "username")
		return err
	})
	stop()
}

// TestWhatIsMadeAnewIsNotKept has a login read as if it were a secret that is kept, which would be another one each time.
func TestWhatIsMadeAnewIsNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour, time.Hour)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(w.vault.Issue(w.policy, time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := vaultkv.Open(fmt.Sprintf("%s/database/creds/keyward?kv=1&ca=%s&token-file=%s#password", w.vault.Address, w.vault.CA, file), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := s.Read(t.Context()); text != "" || !errors.Is(err, vaultclient.ErrLeased) {
		t.Errorf("Read() = %q, %v", text, err)
	}
	if got := w.logins(t); len(got) > 0 {
		t.Errorf("the database has %q", got)
	}
}
