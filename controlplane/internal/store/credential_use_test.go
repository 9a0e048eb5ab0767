package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

// withCredentials has groups with rows of their own: uids from 10 in the first group, from 20 in the second.
func withCredentials(t *testing.T, created time.Time, groups ...string) *storetest.DB {
	t.Helper()
	db := open(t, groups...)
	for i, name := range groups {
		n := 10 * (i + 1)
		err := db.Store.InGroup(t.Context(), name, func(ctx context.Context, tx *store.GroupTx) error {
			rows := []store.Row{
				row(n, "credentials", "alice/a"), row(n+1, "credentials", "alice/b"), row(n+2, "credentials", "bob/a"), row(n+3, "routes", "r"),
			}
			for i := range rows {
				rows[i].CreatedAt = created
			}
			return bump(ctx, tx, "first", rows...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func used(t *testing.T, db *storetest.DB) map[string]time.Time {
	t.Helper()
	var all []string
	for n := range 40 {
		all = append(all, uid(n))
	}
	got, err := db.Store.LastUsed(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestUsesOfCredentialsAreSaved(t *testing.T) {
	t.Parallel()
	at := now().Add(-time.Hour)
	use := func(group string, n int, after time.Duration) store.CredentialUse {
		return store.CredentialUse{Group: group, UID: uid(n), At: at.Add(after)}
	}
	tests := []struct {
		name string
		uses []store.CredentialUse // each saved by itself
		want map[string]time.Time
	}{
		{"one", []store.CredentialUse{use("default", 10, 0)}, map[string]time.Time{uid(10): at}},
		{"a later one", []store.CredentialUse{use("default", 10, 0), use("default", 10, store.UseGrain+1000)}, map[string]time.Time{uid(10): at.Add(store.UseGrain + 1000)}},
		{"hardly a later one", []store.CredentialUse{use("default", 10, 0), use("default", 10, store.UseGrain)}, map[string]time.Time{uid(10): at}},
		{"an earlier one", []store.CredentialUse{use("default", 10, 0), use("default", 10, -time.Hour)}, map[string]time.Time{uid(10): at}},
		{"of a credential that is not there", []store.CredentialUse{use("default", 39, 0)}, map[string]time.Time{}},
		{"of another group's", []store.CredentialUse{use("other", 10, 0)}, map[string]time.Time{}},
		{"of another group's that is known", []store.CredentialUse{use("default", 10, 0), use("other", 10, time.Hour)}, map[string]time.Time{uid(10): at}},
		{"of what is no credential", []store.CredentialUse{use("default", 13, 0)}, map[string]time.Time{}},
		{"of a group that is not there", []store.CredentialUse{use("nobody's", 10, 0)}, map[string]time.Time{}},
		{"of what is no uid", []store.CredentialUse{{Group: "default", UID: "x", At: at}}, map[string]time.Time{}},
	}
	db := withCredentials(t, now(), "default", "other")
	for _, tt := range tests { // one after the other, in one database
		t.Run(tt.name, func(t *testing.T) {
			db.Exec(t, `delete from credential_uses`)
			for _, u := range tt.uses {
				if err := db.Store.SaveCredentialUses(t.Context(), []store.CredentialUse{u}); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, used(t, db), sameTime); diff != "" {
				t.Errorf("uses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSeveralUsesAreSavedAtOnce(t *testing.T) {
	t.Parallel()
	db := withCredentials(t, now(), "default", "other")
	at := now()
	if err := db.Store.SaveCredentialUses(t.Context(), []store.CredentialUse{{Group: "default", UID: uid(11), At: at.Add(-time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	err := db.Store.SaveCredentialUses(t.Context(), []store.CredentialUse{
		{Group: "default", UID: uid(12), At: at}, {Group: "default", UID: uid(11), At: at}, {Group: "other", UID: uid(20), At: at}, {Group: "other", UID: uid(10), At: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]time.Time{uid(11): at, uid(12): at, uid(20): at}
	if diff := cmp.Diff(want, used(t, db), sameTime); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
	if err := db.Store.SaveCredentialUses(t.Context(), nil); err != nil {
		t.Errorf("no uses: %v", err)
	}
}

func TestUsesGoWithTheirCredentials(t *testing.T) {
	t.Parallel()
	db := withCredentials(t, now(), "default")
	at := now()
	if err := db.Store.SaveCredentialUses(t.Context(), []store.CredentialUse{{Group: "default", UID: uid(10), At: at}, {Group: "default", UID: uid(11), At: at}}); err != nil {
		t.Fatal(err)
	}
	again := row(11, "credentials", "alice/b") // is changed, and stays
	again.Labels = nil
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		if err := tx.Delete(ctx, []store.Ref{{Kind: "credentials", UID: uid(10)}}); err != nil {
			return err
		}
		return bump(ctx, tx, "2", again)
	})
	if diff := cmp.Diff(map[string]time.Time{uid(11): at}, used(t, db), sameTime); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
}

// While a change deletes credentials, uses of them are passed over, and nobody waits for it or keeps it waiting for ever.
func TestSavingUsesDoesNotWaitForChanges(t *testing.T) {
	t.Parallel()
	db := withCredentials(t, now(), "default")
	at := now()
	if err := db.Store.SaveCredentialUses(t.Context(), []store.CredentialUse{{Group: "default", UID: uid(10), At: at.Add(-time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		refs := []store.Ref{{Kind: "credentials", UID: uid(10)}, {Kind: "credentials", UID: uid(11)}}
		if err := tx.Delete(ctx, refs); err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		err := db.Store.SaveCredentialUses(bounded, []store.CredentialUse{{Group: "default", UID: uid(10), At: at}, {Group: "default", UID: uid(11), At: at}, {Group: "default", UID: uid(12), At: at}})
		if err != nil {
			return err
		}
		return bump(ctx, tx, "2")
	})
	if diff := cmp.Diff(map[string]time.Time{uid(12): at}, used(t, db), sameTime); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
}

// Replicas that tell of the same credentials, and changes that delete them, in any order: none of them fails.
func TestSavingUsesNeverBlocksAnother(t *testing.T) {
	t.Parallel()
	const replicas, rounds, credentials = 4, 15, 30
	db := open(t, "default")
	var all []store.Row
	for n := range credentials {
		all = append(all, row(100+n, "credentials", fmt.Sprintf("alice/%02d", n)))
	}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1", all...) })
	var wg sync.WaitGroup
	errs := make(chan error, replicas*rounds+rounds)
	for r := range replicas {
		wg.Go(func() {
			for i := range rounds {
				var uses []store.CredentialUse
				for n := range credentials {
					uses = append(uses, store.CredentialUse{Group: "default", UID: uid(100 + (n*(r*2+1)+i)%credentials), At: now().Add(time.Duration(i) * time.Hour)})
				}
				errs <- db.Store.SaveCredentialUses(t.Context(), uses)
			}
		})
	}
	wg.Go(func() {
		for i := range rounds {
			errs <- db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
				refs := []store.Ref{{Kind: "credentials", UID: uid(100 + 2*i + 1)}, {Kind: "credentials", UID: uid(100 + 2*i)}}
				if err := tx.Delete(ctx, refs); err != nil {
					return err
				}
				return bump(ctx, tx, "more")
			})
		}
	})
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if left := used(t, db); len(left) != 0 {
		t.Errorf("uses of nothing: %v", left)
	}
}

func TestCredentialUsage(t *testing.T) {
	t.Parallel()
	at := now()
	long, day := at.Add(-100*24*time.Hour), 24*time.Hour
	db := withCredentials(t, long, "default", "other")
	uses := map[string]time.Time{uid(10): at.Add(-40 * day), uid(11): at.Add(-10 * day), uid(20): at}
	for u, when := range maps.All(uses) {
		group := "default"
		if u == uid(20) {
			group = "other"
		}
		if err := db.Store.SaveCredentialUses(t.Context(), []store.CredentialUse{{Group: group, UID: u, At: when}}); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := store.Usage{Name: "alice/a", UID: uid(10), Used: uses[uid(10)]}, store.Usage{Name: "alice/b", UID: uid(11), Used: uses[uid(11)]}, store.Usage{Name: "bob/a", UID: uid(12)}
	ask := func(after string, limit int, unused time.Duration) store.UsageQuery {
		q := store.UsageQuery{Group: "default", After: after, Limit: limit}
		if unused > 0 {
			q.UnusedSince = at.Add(-unused)
		}
		return q
	}
	tests := []struct {
		name  string
		since time.Time
		ask   store.UsageQuery
		want  []store.Usage
	}{
		{"all", long, ask("", 10, 0), []store.Usage{a, b, c}},
		{"a page", long, ask("", 2, 0), []store.Usage{a, b}},
		{"the next", long, ask("alice/b", 2, 0), []store.Usage{c}},
		{"unused", long, ask("", 10, 30*day), []store.Usage{a, c}},
		{"unused for less", long, ask("", 10, 5*day), []store.Usage{a, b, c}},
		{"unused for longer", long, ask("", 10, 90*day), []store.Usage{c}},
		{"unused for longer than they are there", long.Add(-day), ask("", 10, 101*day), nil},
		{"unused for longer than is recorded", at.Add(-20 * day), ask("", 10, 30*day), nil},
		{"unused for less than is recorded", at.Add(-20 * day), ask("", 10, 15*day), []store.Usage{a, c}},
	}
	for _, tt := range tests { // one after the other, in one database
		t.Run(tt.name, func(t *testing.T) {
			db.Exec(t, fmt.Sprintf(`update groups set uses_since = '%s'`, tt.since.Format(time.RFC3339Nano)))
			got, since, err := db.Store.CredentialUsage(t.Context(), tt.ask)
			if diff := cmp.Diff(tt.want, got, sameTime, cmpopts.EquateEmpty()); diff != "" || err != nil || !since.Equal(tt.since) {
				t.Errorf("since %s, %v (-want +got):\n%s", since, err, diff)
			}
		})
	}
	if _, _, err := db.Store.CredentialUsage(t.Context(), store.UsageQuery{Group: "nobody's", Limit: 1}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of a group that is not there: %v", err)
	}
}
