package registry_test

import (
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/registry/registrytest"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/mtls"
)

// ledger is a ledger over a real database with the groups "pay" and "shop".
type ledger struct {
	*registry.Ledger
	registry *registry.Registry
	db       *storetest.DB
}

type revocations struct{}

func (revocations) Add(string) {}

func newLedger(t *testing.T) ledger {
	t.Helper()
	db := storetest.New(t)
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	vaults := sealer.New(db.Store, key)
	if _, err := vaults.Init(t.Context(), "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pay", "shop"} {
		if _, err := vaults.CreateGroup(t.Context(), sealer.NewGroup{Name: name, Actor: "test", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	l := registry.NewLedger(db.Store, vaults, fallback.NewKeys(db.Store, vaults, time.Now), time.Now)
	r := registry.New(registry.Config{Store: db.Store, Notes: db.Store, Changes: l, Revocations: revocations{}, Rollouts: registrytest.New(), Skills: db.Store, Replica: "a"})
	return ledger{Ledger: l, registry: r, db: db}
}

func (l ledger) token(t *testing.T, group string, uses int32) (store.JoinToken, string) {
	t.Helper()
	row, text, err := l.registry.CreateJoinToken(t.Context(), registry.NewToken{
		Group: group, Uses: uses, TTL: time.Hour, Actor: "admin", Pin: mtls.SPKI{7},
	})
	if err != nil {
		t.Fatal(err)
	}
	return row, text
}

func (l ledger) used(t *testing.T, group, id string) int32 {
	t.Helper()
	rows, err := l.registry.JoinTokens(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.ID == id {
			return r.Used
		}
	}
	return -1
}

func candidate(group, token string, key byte) registry.Candidate {
	return registry.Candidate{Group: group, KeyHash: append(make([]byte, 31), key), Attestor: "join-token", By: token, JoinToken: token}
}

func TestEnrolmentRepeatedWithTheSameKeyCostsOneUse(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	token, _ := l.token(t, "pay", 1)
	first, err := l.Enrol(t.Context(), candidate("pay", token.ID, 1))
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Enrol(t.Context(), candidate("pay", token.ID, 1))
	if err != nil || again.ID != first.ID {
		t.Errorf("Enrol again = %s, %v, want %s", again.ID, err, first.ID)
	}
	// The gateway has renewed, and lost its newer key.
	note := store.Certificate{SPKIHash: []byte("the next key"), Serial: "2", NotAfter: time.Now().Add(time.Hour)}
	if err := l.SetGatewayCertificate(t.Context(), "pay", first.ID, note); err != nil {
		t.Fatal(err)
	}
	if again, err = l.Enrol(t.Context(), candidate("pay", token.ID, 1)); err != nil || again.ID != first.ID {
		t.Errorf("Enrol after a renewal = %s, %v, want %s", again.ID, err, first.ID)
	}
	if n := l.used(t, "pay", token.ID); n != 1 {
		t.Errorf("the token was used %d times, want once", n)
	}
	if _, err := l.Enrol(t.Context(), candidate("pay", token.ID, 2)); !errors.Is(err, registry.ErrUsedUp) {
		t.Errorf("Enrol with a used-up token = %v, want ErrUsedUp", err)
	}
	if _, err := l.Enrol(t.Context(), candidate("shop", token.ID, 3)); !errors.Is(err, registry.ErrUsedUp) {
		t.Errorf("Enrol with the token of another group = %v, want ErrUsedUp", err)
	}
}

func TestConcurrentEnrolmentsDoNotExceedTheUses(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	token, _ := l.token(t, "pay", 3)
	var wg sync.WaitGroup
	var mu sync.Mutex
	enrolled, ids := 0, map[string]bool{}
	for i := range 12 {
		wg.Go(func() {
			g, err := l.Enrol(t.Context(), candidate("pay", token.ID, byte(i%6))) // each key twice
			if err != nil && !errors.Is(err, registry.ErrUsedUp) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				enrolled, ids[g.ID] = enrolled+1, true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(ids) != 3 || enrolled != 6 || l.used(t, "pay", token.ID) != 3 {
		t.Errorf("%d enrolments of %d gateways with %d uses, want 6 of 3 with 3", enrolled, len(ids), l.used(t, "pay", token.ID))
	}
}

func TestRevokedGatewayStaysRevoked(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	token, _ := l.token(t, "pay", 5)
	g, err := l.Enrol(t.Context(), candidate("pay", token.ID, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.registry.Revoke(t.Context(), "shop", g.ID, "admin", "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Revoke through another group = %v, want ErrNotFound", err)
	}
	for range 2 {
		got, err := l.registry.Revoke(t.Context(), "pay", g.ID, "admin", "stolen")
		if err != nil || got.State != registry.Revoked || got.RevokedReason != "stolen" {
			t.Errorf("Revoke = %+v, %v", got, err)
		}
	}
	if _, err := l.Enrol(t.Context(), candidate("pay", token.ID, 1)); !errors.Is(err, registry.ErrRevoked) {
		t.Errorf("Enrol with the key of a revoked gateway = %v, want ErrRevoked", err)
	}
	note := store.Certificate{SPKIHash: []byte("k"), NotAfter: time.Now()}
	if err := l.SetGatewayCertificate(t.Context(), "pay", g.ID, note); !errors.Is(err, registry.ErrRevoked) {
		t.Errorf("SetGatewayCertificate = %v, want ErrRevoked", err)
	}
}

func TestKeyOfAnotherGatewayCannotBeTaken(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	token, _ := l.token(t, "pay", 5)
	a, err := l.Enrol(t.Context(), candidate("pay", token.ID, 1))
	if err != nil {
		t.Fatal(err)
	}
	b := candidate("pay", token.ID, 2)
	if _, err := l.Enrol(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := l.SetGatewayCertificate(t.Context(), "pay", a.ID, store.Certificate{SPKIHash: b.KeyHash}); !errors.Is(err, registry.ErrKeyInUse) {
		t.Errorf("SetGatewayCertificate with another's key = %v, want ErrKeyInUse", err)
	}
}

func TestJoinTokensAreAuthenticated(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	row, text := l.token(t, "pay", 1)
	a := attest.NewJoinTokens(l, time.Now)
	got, err := a.Attest(t.Context(), attest.Evidence{Token: text})
	if err != nil || got.Group != "pay" || got.JoinToken != row.ID {
		t.Fatalf("Attest = %+v, %v", got, err)
	}
	shop, _ := l.token(t, "shop", 1)
	l.db.Exec(t, "update join_tokens set group_uid = '"+shop.GroupUID+"' where id = '"+row.ID+"'")
	if _, err := a.Attest(t.Context(), attest.Evidence{Token: text}); !errors.Is(err, attest.ErrUnavailable) {
		t.Errorf("Attest with a token moved to another group in the database = %v", err)
	}
	if err := l.registry.DeleteJoinToken(t.Context(), "shop", shop.ID, "admin"); err != nil {
		t.Fatal(err)
	}
	if n := l.used(t, "shop", shop.ID); n != -1 {
		t.Error("a deleted token is still listed")
	}
}

// TestWhatHangsOnARootIsFound is of the questions that are asked before a root is retired.
func TestWhatHangsOnARootIsFound(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	token, _ := l.token(t, "pay", 6)
	now := time.Now()
	id := map[string]string{}
	for i, g := range []struct {
		name, issuer string
		notAfter     time.Duration
	}{
		{"new", "i2", time.Hour}, {"old", "i1", time.Hour}, {"unknown", "", 2 * time.Hour}, {"expired", "i1", -time.Hour}, {"revoked", "i1", time.Hour},
	} {
		made, err := l.Enrol(t.Context(), candidate("pay", token.ID, byte(i)))
		if err != nil {
			t.Fatal(err)
		}
		id[made.ID] = g.name
		note := store.Certificate{SPKIHash: []byte(g.name), Serial: "1", Issuer: g.issuer, NotAfter: now.Add(g.notAfter)}
		if err := l.SetGatewayCertificate(t.Context(), "pay", made.ID, note); err != nil {
			t.Fatal(err)
		}
		if g.name == "revoked" {
			if err := l.Revoke(t.Context(), "pay", made.ID, "admin", "stolen"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		after time.Duration
		want  []string
	}{{0, []string{"unknown", "old"}}, {-2 * time.Hour, []string{"unknown", "old", "expired"}}} {
		bearers, err := l.db.Store.BearersOfOthers(t.Context(), []string{"i2", "i3"}, now.Add(tt.after))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range bearers {
			got = append(got, id[b.ID])
			if b.Group != "pay" || b.NotAfter.IsZero() {
				t.Errorf("bearer = %+v", b)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", tt.after, diff)
		}
	}
	if all, err := l.db.Store.BearersOfOthers(t.Context(), nil, now); err != nil || len(all) != 3 {
		t.Errorf("certificates of no issuer at all: %d, %v, want 3", len(all), err)
	}

	l.token(t, "shop", 1) // another one of the same root
	used, _ := l.token(t, "shop", 1)
	if _, err := l.Enrol(t.Context(), candidate("shop", used.ID, 9)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		root string
		at   time.Time
		want int
	}{{mtls.SPKI{7}.String(), now, 2}, {mtls.SPKI{8}.String(), now, 0}, {mtls.SPKI{7}.String(), now.Add(2 * time.Hour), 0}} {
		if n, err := l.db.Store.JoinTokensOfRoot(t.Context(), tt.root, tt.at); err != nil || n != tt.want {
			t.Errorf("JoinTokensOfRoot(%.4s) = %d, %v, want %d", tt.root, n, err, tt.want)
		}
	}
}
