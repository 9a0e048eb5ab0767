package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyward.dev/controlplane/internal/store"
)

// sameTime compares instants, whatever their zone.
var sameTime = cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })

func TestAdminTokensLiveUntilDeleted(t *testing.T) {
	t.Parallel()
	db := open(t)
	want := store.AdminToken{
		ID: "a1", Name: "ci", SecretHash: []byte{1, 2}, Grants: []store.Grant{{Group: "*", Role: "admin"}}, CreatedAt: now(),
		CreatedBy: "root", ExpiresAt: now().Add(time.Hour), MAC: []byte{3},
	}
	never := want
	never.ID, never.ExpiresAt, never.CreatedAt = "a2", time.Time{}, now()
	system := func(fn func(context.Context, *store.GroupTx) error) error { return db.Store.InSystem(t.Context(), fn) }
	err := system(func(ctx context.Context, tx *store.GroupTx) error {
		return errors.Join(tx.CreateAdminToken(ctx, want), tx.CreateAdminToken(ctx, never))
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := db.Store.AdminTokens(t.Context())
	if diff := cmp.Diff([]store.AdminToken{want, never}, got, sameTime); diff != "" || err != nil {
		t.Errorf("AdminTokens: %v (-want +got):\n%s", err, diff)
	}
	del := func() error {
		return system(func(ctx context.Context, tx *store.GroupTx) error {
			return tx.DeleteAdminToken(ctx, store.AdminToken{ID: "a1", DeletedAt: now(), MAC: []byte{4}})
		})
	}
	if err := del(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Store.AdminToken(t.Context(), "a1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted token: %v", err)
	}
	if err := del(); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleting again: %v", err)
	}
}

func TestAJoinTokenIsUsedNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	const uses, keys = 3, 12
	db := open(t, "default", "other")
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		return tx.CreateJoinToken(ctx, store.JoinToken{
			ID: "j1", SecretHash: []byte{1}, Uses: uses, CreatedAt: now(), ExpiresAt: now().Add(time.Hour), MAC: []byte{2},
		})
	})
	var wg sync.WaitGroup
	results := make(chan error, keys)
	for k := range keys {
		wg.Go(func() {
			results <- db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
				return tx.UseJoinToken(ctx, "j1", []byte{byte(k)}, "gateway", now())
			})
		})
	}
	wg.Wait()
	close(results)
	good := 0
	for err := range results {
		if err == nil {
			good++
		} else if !errors.Is(err, store.ErrConflict) {
			t.Errorf("a use beyond: %v", err)
		}
	}
	token, err := db.Store.JoinToken(t.Context(), "j1")
	if good != uses || err != nil || token.Used != uses || token.Group != "default" {
		t.Errorf("%d uses succeeded, token %+v, %v; want %d", good, token, err, uses)
	}
}

func TestAJoinTokenOfAnotherGroupOrTimeIsRefused(t *testing.T) {
	t.Parallel()
	db := open(t, "default", "other")
	create := func(id string, expires time.Time) {
		inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
			return tx.CreateJoinToken(ctx, store.JoinToken{
				ID: id, SecretHash: []byte{1}, Uses: 1, CreatedAt: now(), ExpiresAt: expires, MAC: []byte{2},
			})
		})
	}
	create("expired", now().Add(-time.Second))
	create("deleted", now().Add(time.Hour))
	create("good", now().Add(time.Hour))
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return tx.DeleteJoinToken(ctx, "deleted", now()) })
	for id, group := range map[string]string{"expired": "default", "deleted": "default", "good": "other", "missing": "default"} {
		err := db.Store.InGroup(t.Context(), group, func(ctx context.Context, tx *store.GroupTx) error {
			return tx.UseJoinToken(ctx, id, []byte{1}, "gateway", now())
		})
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s token in group %s: %v, want ErrConflict", id, group, err)
		}
	}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		if _, err := tx.JoinTokenUse(ctx, "good", []byte{7}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("use before any: %v", err)
		}
		if err := tx.UseJoinToken(ctx, "good", []byte{7}, "gateway-7", now()); err != nil {
			return err
		}
		got, err := tx.JoinTokenUse(ctx, "good", []byte{7})
		if got != "gateway-7" {
			t.Errorf("JoinTokenUse = %q", got)
		}
		return err
	})
}

func TestAGatewayIsEnrolledHeardOfAndRevoked(t *testing.T) {
	t.Parallel()
	db := open(t, "default", "other")
	ctx := t.Context()
	want := store.Gateway{
		ID: "g1", GroupUID: uid(1), Group: "default", Labels: map[string]string{"region": "x"}, Version: "1", Attestor: "join-token",
		Attestation: "j1", SPKIHash: []byte{1}, Serial: "01", NotAfter: now().Add(time.Hour), EnrolledAt: now(),
	}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return tx.CreateGateway(ctx, want) })
	hello := store.Hello{Version: "2", PolicyTypes: []string{"acl"}, Labels: map[string]string{"region": "y"}, Replica: "r1", At: now()}
	if err := db.Store.SetGatewayHello(ctx, "default", "g1", hello); err != nil {
		t.Fatal(err)
	}
	state := store.GatewayState{
		LastSeen: now(), Replica: "", AppliedEpoch: 1<<63 - 1, AppliedRevision: 7, AppliedDigest: []byte{9},
		Faults: []store.Fault{{Kind: "routes", UID: "u", Name: "n", Reason: "r"}},
	}
	if err := db.Store.SetGatewayState(ctx, "default", "g1", state); err != nil {
		t.Fatal(err)
	}
	cert := store.Certificate{SPKIHash: []byte{2}, Serial: "02", NotAfter: now().Add(2 * time.Hour)}
	if err := db.Store.SetGatewayCertificate(ctx, "default", "g1", cert); err != nil {
		t.Fatal(err)
	}
	want.Version, want.PolicyTypes, want.Labels, want.GatewayState = "2", hello.PolicyTypes, hello.Labels, state
	want.SPKIHash, want.Serial, want.NotAfter = cert.SPKIHash, cert.Serial, cert.NotAfter
	got, err := db.Store.Gateway(ctx, "default", "g1")
	if diff := cmp.Diff(want, got, sameTime, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("Gateway: %v (-want +got):\n%s", err, diff)
	}
	for _, tt := range []struct {
		group string
		types []string
		want  int
	}{{"default", nil, 0}, {"default", []string{"acl"}, 0}, {"default", []string{"acl", "cors"}, 1}, {"other", []string{"cors"}, 0}} {
		if got, err := db.Store.GatewaysWithout(ctx, tt.group, tt.types); err != nil || len(got) != tt.want {
			t.Errorf("GatewaysWithout(%s, %v) = %v, %v, want %d", tt.group, tt.types, got, err, tt.want)
		}
	}
	if _, err := db.Store.Gateway(ctx, "other", "g1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("from another group: %v", err)
	}
	revoke := func(group string) error {
		return db.Store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
			return tx.RevokeGateway(ctx, "g1", "root", "lost", now())
		})
	}
	if err := revoke("other"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("revoking through another group: %v", err)
	}
	if err := revoke("default"); err != nil {
		t.Fatal(err)
	}
	if err := db.Store.SetGatewayCertificate(ctx, "default", "g1", cert); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("renewing a revoked gateway: %v", err)
	}
	if got, err := db.Store.GatewaysWithout(ctx, "default", []string{"cors"}); err != nil || len(got) != 0 {
		t.Errorf("a revoked gateway counts: %v, %v", got, err)
	}
	if ids, err := db.Store.RevokedGateways(ctx); err != nil || !slices.Equal(ids, []string{"g1"}) {
		t.Errorf("RevokedGateways = %v, %v", ids, err)
	}
}

func TestOneRowForEachGroupAndReplica(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	r := store.ReplicaReport{
		Group: "default", Replica: "r1", At: now(),
		Gateways: []store.GatewayReport{{ID: "g1", Contract: 3, Epoch: 1<<63 - 1, Revision: 3, Digest: []byte{1}, LastSeen: now()}},
	}
	for range 3 {
		r.Gateways[0].Revision++
		if err := db.Store.SaveReport(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.Store.Reports(t.Context(), "default", now().Add(-time.Minute))
	if diff := cmp.Diff([]store.ReplicaReport{r}, got, sameTime); diff != "" || err != nil {
		t.Errorf("Reports: %v (-want +got):\n%s", err, diff)
	}
	if err := db.Store.DropReports(t.Context(), "r1", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := db.Store.Reports(t.Context(), "default", time.Time{}); len(got) != 0 {
		t.Errorf("%d reports after DropReports", len(got))
	}
}

func TestOneAuthorityOfAKindIsCurrent(t *testing.T) {
	t.Parallel()
	db := open(t)
	authority := func(id, state string) store.Authority {
		return store.Authority{
			ID: id, Kind: "root", State: state, Certificate: []byte{1}, Sealed: []byte{2}, NotBefore: now(), NotAfter: now(), CreatedAt: now(),
		}
	}
	system := func(fn func(context.Context, *store.GroupTx) error) error { return db.Store.InSystem(t.Context(), fn) }
	first := authority("c1", "current")
	if err := system(func(ctx context.Context, tx *store.GroupTx) error { return tx.CreateAuthority(ctx, first) }); err != nil {
		t.Fatal(err)
	}
	err := system(func(ctx context.Context, tx *store.GroupTx) error {
		return tx.CreateAuthority(ctx, authority("c2", "current"))
	})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("a second current root: %v", err)
	}
	got, err := db.Store.Authorities(t.Context())
	if diff := cmp.Diff([]store.Authority{first}, got, sameTime); diff != "" || err != nil {
		t.Errorf("Authorities: %v (-want +got):\n%s", err, diff)
	}
	if err := system(func(ctx context.Context, tx *store.GroupTx) error { return tx.SetAuthorityState(ctx, "c1", "retired") }); err != nil {
		t.Fatal(err)
	}
	if got, _ := db.Store.Authorities(t.Context()); len(got) != 0 {
		t.Errorf("%d authorities after the only one retired", len(got))
	}
}

func TestTextOfAGatewayCannotKeepTheRestFromBeingWritten(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	const odd = "a\x00b\xff"
	faults := []store.Fault{{Kind: odd, UID: odd, Name: odd, Reason: odd}}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		return tx.CreateGateway(ctx, store.Gateway{
			ID: "g1", Name: odd, Labels: map[string]string{odd: odd}, Version: odd, Attestor: "join-token", SPKIHash: []byte{1}, EnrolledAt: now(),
		})
	})
	hello := store.Hello{Version: odd, PolicyTypes: []string{odd}, Labels: map[string]string{odd: odd}, At: now()}
	err := errors.Join(
		db.Store.SetGatewayHello(t.Context(), "default", "g1", hello),
		db.Store.SetGatewayState(t.Context(), "default", "g1", store.GatewayState{Faults: faults}),
		db.Store.SaveReport(t.Context(), store.ReplicaReport{
			Group: "default", Replica: "r", At: now(), Gateways: []store.GatewayReport{{ID: "g1", Faults: faults}},
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	got, err := db.Store.Gateway(t.Context(), "default", "g1")
	if want := "a\uFFFDb\uFFFD"; err != nil || got.Version != want || got.Labels[want] != want || got.Faults[0].Reason != want {
		t.Errorf("Gateway = %+v, %v", got, err)
	}
}

func TestTextTheDatabaseCannotKeepIsInvalid(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	err := db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		return tx.CreateJoinToken(ctx, store.JoinToken{
			ID: "j1", Description: "\x00", SecretHash: []byte{1}, Uses: 1, CreatedAt: now(), ExpiresAt: now(), MAC: []byte{2},
		})
	})
	if !errors.Is(err, store.ErrInvalid) {
		t.Errorf("CreateJoinToken = %v, want ErrInvalid", err)
	}
}
