package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"keyward.dev/controlplane/internal/store"
)

// TestLookingForGroupsByKindsReadsLittle: jobs ask every few seconds, and a group may hold a million of what they do not look
// for, with which the database's planner has not made itself familiar yet.
func TestLookingForGroupsByKindsReadsLittle(t *testing.T) {
	t.Parallel()
	db := open(t, "large", "other")
	write := func(group string, rows ...store.Row) {
		if err := db.Store.InGroup(t.Context(), group, func(ctx context.Context, tx *store.GroupTx) error {
			return bump(ctx, tx, "1", rows...)
		}); err != nil {
			t.Fatal(err)
		}
	}
	write("other", row(1, "acme-issuers", "a"))
	db.Exec(t, fmt.Sprintf(`insert into resources (group_uid, kind, uid, name, labels, revision, sealed, created_at, updated_at)
		select '%s', 'credentials', gen_random_uuid()::text, 'c' || n, '{}', 1, decode(repeat('ab', 200), 'hex'), now(), now()
		from generate_series(1, 50000) n`, uid(1)))
	kinds := []string{"acme-issuers", "credential-stores"}
	for _, after := range []string{"select", "analyze resources"} {
		db.Exec(t, after)
		var plans []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		var text []byte
		err := db.Conn(t).QueryRow(t.Context(), "explain (analyze, buffers, format json) "+store.SelectGroupsHolding, kinds).Scan(&text)
		if err == nil {
			err = json.Unmarshal(text, &plans)
		}
		if err != nil || len(plans) != 1 {
			t.Fatalf("explain: %d plans, %v", len(plans), err)
		}
		if n := plans[0].Plan.Hit + plans[0].Plan.Read; n == 0 || n > 200 {
			t.Errorf("after %q: %d pages were read:\n%s", after, n, text)
		}
	}
	groups, err := db.Store.GroupsHolding(t.Context(), kinds)
	if err != nil || !slices.Equal(groups, []string{"other"}) {
		t.Errorf("GroupsHolding = %v, %v", groups, err)
	}
}
