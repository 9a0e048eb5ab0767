package store_test

import (
	"context"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

// listen runs a listener until the test ends and waits until it listens.
func listen(t *testing.T, db *storetest.DB) *store.Listener {
	t.Helper()
	l := db.Store.NewListener()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	await(t, l, store.Hint{})
	return l
}

// await takes hints until the wanted one comes.
func await(t *testing.T, l *store.Listener, want store.Hint) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		select {
		case h := <-l.Hints():
			if h == want {
				return
			}
		case <-ctx.Done():
			t.Fatalf("hint %+v did not come", want)
		}
	}
}

func TestACommittedRevisionIsHinted(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	l := listen(t, db)
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1") })
	await(t, l, store.Hint{Group: "default"})
	if len(l.Hints()) != 0 {
		t.Errorf("further hint %+v", <-l.Hints())
	}
}

func TestStateWithoutRevisionIsHintedAndCounted(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	l := listen(t, db)
	before, err := db.Store.Wakeups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		return tx.CreateGateway(ctx, store.Gateway{ID: "g1", Attestor: "join-token", SPKIHash: []byte{1}, EnrolledAt: now()})
	})
	await(t, l, store.Hint{Topic: store.TopicGateways})
	after, err := db.Store.Wakeups(t.Context())
	if err != nil || after[store.TopicGateways] != before[store.TopicGateways]+1 {
		t.Errorf("counter went from %d to %d, %v", before[store.TopicGateways], after[store.TopicGateways], err)
	}
	if after[store.TopicAdminTokens] != before[store.TopicAdminTokens] {
		t.Error("another topic's counter moved")
	}
}

func TestListeningGoesOnAfterTheConnectionIsLost(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	l := listen(t, db)
	db.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and query like 'listen%'`)
	await(t, l, store.Hint{}) // it listens again, and says that it may have missed something
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1") })
	await(t, l, store.Hint{Group: "default"})
}

func TestHintsThatNobodyTakesDoNotBlock(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	l := listen(t, db)
	for range 300 {
		inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { tx.Wake(store.TopicKeyrings); return nil })
	}
	await(t, l, store.Hint{Topic: store.TopicKeyrings})
}
