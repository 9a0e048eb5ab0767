package secretsource_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/vaulttest"
)

// asking has the settings ask a directory as somebody whose name and password are elsewhere; without references, nobody.
func (r *replica) asking(t *testing.T, name, password string) error {
	t.Helper()
	settings := &configv1.Settings{}
	if name != "" {
		ref := func(text string) *configv1.Secret { return &configv1.Secret{Value: &configv1.Secret_Ref{Ref: text}} }
		packed, err := anypb.New(&policyv1.LdapAuth{
			Server: &policyv1.LdapServer{Addresses: []string{"ldap.test:636"}},
			Search: &policyv1.LdapSearch{BaseDn: "dc=test", BindName: ref(name), BindPassword: ref(password)},
		})
		if err != nil {
			t.Fatal(err)
		}
		settings.Policies = []*configv1.Binding{{Type: "ldap-auth", Config: packed}}
	}
	_, err := r.Write(t.Context(), configsvc.Request{
		Actor: "test", Action: "resources.apply", Group: "g",
		Changes: []admission.Change{{Kind: "settings", Name: "settings", Message: settings}},
	})
	return err
}

// values are those of the references in the group, by reference, and its revision.
func (w *world) values(t *testing.T) (map[string]*systemv1.ResolvedSecret, int64) {
	t.Helper()
	v, err := w.replica(t).groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*systemv1.ResolvedSecret{}
	for r := range v.All(certs.KindResolved) {
		m, _ := r.Message.(*systemv1.ResolvedSecret)
		out[m.GetReference()] = m
	}
	return out, v.Revision
}

// madeLogins is a database to which a Vault makes logins, which a provider of the operator, or of the group, gives.
type madeLogins struct {
	*world
	db      *storetest.DB
	conn    *pgx.Conn
	vault   *vaulttest.Server
	setting func(t *testing.T) string // of another replica, with a login to Vault of its own
	base    []proto.Message
}

func newMadeLogins(t *testing.T, whose string, ttl, maxTTL time.Duration) *madeLogins {
	t.Helper()
	m := &madeLogins{world: newWorld(t), db: storetest.Empty(t)}
	m.conn = m.db.Conn(t)
	var b backend
	m.vault, b = vaultBackend(t)
	policy := m.vault.Logins(m.db.Owner, m.db.RuntimeRole, ttl, maxTTL)
	m.setting = func(t *testing.T) string {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(m.vault.Issue(policy, time.Hour, time.Hour)), 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("place=vault:%s/database?database-role=keyward&groups=g&refresh=1m&stale=2h&ca=%s&token-file=%s", m.vault.Address, m.vault.CA, file)
	}
	if whose == "a tenant's" {
		m.setting = func(*testing.T) string { return "none=env:NONE_?groups=g" }
		m.base = []proto.Message{&configv1.CaCertificate{Name: "place", Certificates: b.ca}, made(&configv1.SecretProvider{Vault: &configv1.VaultProvider{
			Address: m.vault.Address, Mount: "database", DatabaseRole: "keyward", Token: plain(m.vault.Issue(policy, time.Hour, time.Hour)), Ca: []string{"place"},
		}})}
	}
	return m
}

const (
	loginName     = "{vault://place/keyward#username}"
	loginPassword = "{vault://place/keyward#password}"
)

// login is what is kept, which has to be one login that the database takes.
func (m *madeLogins) login(t *testing.T) (name string, lease *systemv1.SecretLease) {
	t.Helper()
	got, _ := m.values(t)
	user, password := got[loginName], got[loginPassword]
	if user.GetLease().GetId() == "" || !proto.Equal(user.GetLease(), password.GetLease()) {
		t.Fatalf("name and password are not of one lease: %v, %v\n%s", user.GetLease(), password.GetLease(), m.logged())
	}
	cfg, err := pgx.ParseConfig(m.db.Runtime)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Password = user.GetValue().GetPlaintext(), password.GetValue().GetPlaintext()
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatalf("the database does not take the login: %v", err)
	}
	_ = conn.Close(t.Context())
	return cfg.User, user.GetLease()
}

// logins are the users in the database that Vault made.
func (m *madeLogins) logins(t *testing.T) []string {
	t.Helper()
	rows, err := m.conn.Query(t.Context(), `select u.rolname from pg_auth_members a
		join pg_roles u on u.oid = a.member join pg_roles r on r.oid = a.roleid where r.rolname = $1`, m.db.RuntimeRole)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (m *madeLogins) run(t *testing.T, r *replica, after time.Duration) {
	t.Helper()
	m.pass(after)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLoginsAreMadeAndRenewedAndGivenBack by the database engine of a real Vault, which makes them in a real PostgreSQL.
func TestLoginsAreMadeAndRenewedAndGivenBack(t *testing.T) {
	t.Parallel()
	for _, whose := range []string{"the operator's", "a tenant's"} {
		t.Run(whose, func(t *testing.T) {
			t.Parallel()
			m := newMadeLogins(t, whose, time.Hour, 2*time.Hour)
			r := m.replicaWith(t, m.setting(t))
			if err := r.apply(t, "g", m.base...); len(m.base) > 0 && err != nil {
				t.Fatal(err)
			}
			for _, other := range []string{"{vault://place/admin#username}", "{vault://place/keyward}", "{vault://place/../config/main#password}"} {
				if err := r.asking(t, other, loginPassword); err == nil {
					t.Errorf("%s is taken", other)
				}
			}
			if err := r.asking(t, loginName, loginPassword); err != nil {
				t.Fatal(err)
			}
			m.run(t, r, 0)
			first, lease := m.login(t)
			_, revision := m.values(t)
			for _, after := range []time.Duration{0, time.Minute, 10 * time.Minute} {
				m.run(t, r, after)
			}
			if _, again := m.values(t); again != revision || len(m.logins(t)) != 1 {
				t.Errorf("without need there is revision %d after %d, and the database has %q", again, revision, m.logins(t))
			}
			m.run(t, r, 15*time.Minute) // 26 minutes of an hour
			name, renewed := m.login(t)
			if name != first || renewed.GetId() != lease.GetId() || !renewed.GetEnds().AsTime().After(lease.GetEnds().AsTime()) {
				t.Errorf("after a third of its life %s, %v; before %s, %v", name, renewed, first, lease)
			}
			if err := r.asking(t, "", ""); err != nil {
				t.Fatal(err)
			}
			m.run(t, r, 0)
			if left, _ := m.values(t); len(left) > 0 || len(m.logins(t)) > 0 {
				t.Errorf("nothing refers to it, and there are %v, in the database %q", left, m.logins(t))
			}
			if strings.Contains(m.logged(), first) {
				t.Error("the log tells the name of a login")
			}
		})
	}
}

// TestAnotherReplicaTakesALoginOver: it holds on to what is kept, and exchanges it when half of its life is over: it ends with
// whoever had it made.
func TestAnotherReplicaTakesALoginOver(t *testing.T) {
	t.Parallel()
	m := newMadeLogins(t, "the operator's", time.Hour, 2*time.Hour)
	one, two := m.replicaWith(t, m.setting(t)), m.replicaWith(t, m.setting(t))
	if err := one.asking(t, loginName, loginPassword); err != nil {
		t.Fatal(err)
	}
	m.run(t, one, 0)
	first, _ := m.login(t)
	m.run(t, two, 0)
	m.run(t, two, 25*time.Minute)
	if name, _ := m.login(t); name != first || len(m.logins(t)) != 1 {
		t.Errorf("early in its life it is exchanged: %s, and before %s", name, first)
	}
	m.run(t, two, 6*time.Minute)
	second, _ := m.login(t)
	if second == first {
		t.Error("after half of its life it is the same")
	}
	if got := m.logins(t); !slices.Contains(got, first) || len(got) != 2 {
		t.Errorf("what was exchanged is not left to its end: %q", got)
	}
	// A reference to another part: what is kept has no such part, so all are of another login.
	m.run(t, one, time.Minute)
	if name, _ := m.login(t); name != second {
		t.Errorf("the first replica exchanged it: %s, and before %s", name, second)
	}
}

// TestALoginIsExchangedBeforeItsLongestLife, which renewing does not add to, and when somebody took it away.
func TestALoginIsExchangedBeforeItsLongestLife(t *testing.T) {
	t.Parallel()
	m := newMadeLogins(t, "the operator's", 20*time.Second, 25*time.Second)
	r := m.replicaWith(t, m.setting(t))
	if err := r.asking(t, loginName, loginPassword); err != nil {
		t.Fatal(err)
	}
	m.run(t, r, 0)
	first, _ := m.login(t)
	begun := time.Now()
	testkit.Await(t, 60*time.Second, func() error {
		m.run(t, r, max(0, time.Since(begun)-m.clock().Sub(begun)))
		if name, _ := m.login(t); name == first {
			return errors.New("it is the same")
		}
		return nil
	})
	if took := time.Since(begun); took > 25*time.Second {
		t.Errorf("it was exchanged after %s", took)
	}
	second, _ := m.login(t)
	m.vault.Write("sys/leases/revoke-prefix/database/creds/keyward", nil)
	m.run(t, r, 10*time.Second)
	if name, _ := m.login(t); name == second {
		t.Error("after it was taken away it is the same")
	}
}

// TestNameAndPasswordAreOfOneMoment has a stand-in for Vault's KV engine answer something else each time. Whenever it is read, both
// are of one answer.
func TestNameAndPasswordAreOfOneMoment(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/kv/reader" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		n := fmt.Sprint(asked.Add(1))
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"username": n, "password": n}})
	}))
	defer server.Close()
	w := newWorld(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hvs.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.replicaWith(t, fmt.Sprintf("place=vault:%s/kv?kv=1&groups=g&refresh=5m&token-file=%s", server.URL, token))
	const name, password = "{vault://place/reader#username}", "{vault://place/reader#password}"
	if err := r.asking(t, name, password); err != nil {
		t.Fatal(err)
	}
	changed := map[string]bool{}
	for range 40 {
		w.pass(10 * time.Second)
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, _ := w.values(t)
		if a, b := got[name].GetValue().GetPlaintext(), got[password].GetValue().GetPlaintext(); a != b || a == "" {
			t.Fatalf("the name is of answer %q, the password of %q", a, b)
		}
		changed[got[name].GetValue().GetPlaintext()] = true
	}
	if n := asked.Load(); len(changed) < 2 || n != int64(len(changed)) {
		t.Errorf("it was asked %d times, for %d pairs", n, len(changed))
	}
}
