package rotation_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/changefeed"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/rotation"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/run"
	"keyward.dev/shared/testkit"
)

const patience = 30 * time.Second

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func uid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// switched is a key-encryption key that can be away.
type switched struct {
	kek.Wrapper
	away atomic.Bool
}

var errAway = errors.New("the key-encryption key does not answer")

func (s *switched) Wrap(ctx context.Context, about, plain []byte) ([]byte, error) {
	if s.away.Load() {
		return nil, errAway
	}
	return s.Wrapper.Wrap(ctx, about, plain)
}

func (s *switched) Unwrap(ctx context.Context, about, wrapped []byte) ([]byte, error) {
	if s.away.Load() {
		return nil, errAway
	}
	return s.Wrapper.Unwrap(ctx, about, wrapped)
}

// world is a database with the group a, in which every table that holds ciphertext has rows.
type world struct {
	*storetest.DB
	key kek.Wrapper
	// record is what every record has behind its uid.
	record string
	*replica
}

// replica is what one process has.
type replica struct {
	store  *store.Store
	kek    *switched
	sealer *sealer.Sealer
	keeper *rotation.Keeper
}

func newWorld(t testing.TB) *world {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{DB: storetest.New(t), key: key}
	w.replica = w.replicaNamed("one", rotation.Config{})
	if _, err := w.sealer.Init(t.Context(), "test", now()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: "a", Actor: "test", At: now()}); err != nil {
		t.Fatal(err)
	}
	return w
}

// replicaNamed is a process that has just started.
func (w *world) replicaNamed(name string, cfg rotation.Config) *replica {
	r := &replica{store: w.Store, kek: &switched{Wrapper: w.key}}
	r.sealer = sealer.New(w.Store, r.kek)
	cfg.Store, cfg.Sealer, cfg.Replica = w.Store, r.sealer, name
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Beat == 0 {
		cfg.Beat = 20 * time.Millisecond
	}
	r.keeper = rotation.New(cfg)
	return r
}

// closed is that no group is open.
type closed struct{}

func (closed) Behind(store.HeadStamp) bool           { return false }
func (closed) CatchUp(context.Context, string) error { return nil }

// run has a replica's keeper run, and follow the news of others, until the test ends or stop is called.
func (r *replica) run(t testing.TB) (stop func()) {
	t.Helper()
	must(t, r.keeper.Begin(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	feed := changefeed.New(changefeed.Config{
		Database: r.store, Groups: closed{}, Interval: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Wake: func(ctx context.Context, topic string) {
			if topic == store.TopicKeyrings {
				_ = r.sealer.Refresh(ctx) // it is tried again
				r.keeper.Poke()
			}
		},
	})
	go func() { done <- run.Group(ctx, r.keeper.Run, feed.Run) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (r *replica) group(t testing.TB, name string) *sealer.Group {
	t.Helper()
	g, err := r.sealer.Group(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// write makes a revision of a group with n routes, as the write path does. The record of each is its uid.
func (w *world) write(t testing.TB, g *sealer.Group, first, n int) {
	t.Helper()
	if err := w.tryWrite(t.Context(), g, first, n); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func (w *world) tryWrite(ctx context.Context, g *sealer.Group, first, n int) error {
	return w.Store.InGroup(ctx, g.Name(), func(ctx context.Context, tx *store.GroupTx) error {
		head := tx.Head()
		if err := g.VerifyHead(head); err != nil {
			return err
		}
		head.Revision++
		var rows []store.Row
		for i := first; i < first+n; i++ {
			row := store.Row{Kind: "routes", UID: uid(i), Name: uid(i), Labels: map[string]string{"n": "x"}, Revision: head.Revision, CreatedAt: now(), UpdatedAt: now()}
			var err error
			if row.Sealed, err = g.Seal(row.Kind, row.UID, row.Name, row.Labels, row.Revision, []byte(row.UID+w.record)); err != nil {
				return err
			}
			rows = append(rows, row)
		}
		if err := tx.Put(ctx, rows); err != nil {
			return err
		}
		body, err := g.SealChange(head.Revision, []byte("change"))
		if err != nil {
			return err
		}
		change := store.Change{Revision: head.Revision, Epoch: head.Epoch, Sealed: body, At: now(), Actor: "test"}
		if err := tx.AppendChange(ctx, change); err != nil {
			return err
		}
		head, err = audit.Append(ctx, tx, g, head, audit.Event{At: now(), Actor: "test", Action: "resources.apply", Revision: head.Revision})
		if err != nil {
			return err
		}
		head.MAC = g.MACHead(head)
		return tx.SetHead(ctx, head)
	})
}

// everywhere puts a row into every table that holds ciphertext of a term.
func (w *world) everywhere(t testing.TB) {
	t.Helper()
	g, system := w.group(t, "a"), w.group(t, store.SystemGroup)
	w.write(t, g, 1, 3)
	base, err := g.SealBaseline(1, []byte("state"))
	must(t, err)
	past, err := g.SealPastRecord("routes", uid(9), 1, []byte("past"))
	must(t, err)
	ca, err := system.SealBlob("certificate_authorities", "c1", []byte("ca"))
	must(t, err)
	conn := w.Conn(t)
	for _, s := range []struct {
		query string
		args  []any
	}{
		{`insert into baselines (group_uid, revision, sealed, updated_at) values ($1, 1, $2, now())`, []any{g.UID(), base}},
		{`insert into baseline_records (group_uid, kind, uid, revision, sealed, created_at, updated_at) values ($1, 'routes', '` + uid(9) + `', 1, $2, now(), now())`, []any{g.UID(), past}},
		{`insert into certificate_authorities values ('c1', 'root', 'current', '', $1, now(), now(), now())`, []any{ca}},
	} {
		_, err := conn.Exec(t.Context(), s.query, s.args...)
		must(t, err)
	}
	account, err := g.SealBlob("acme_accounts", "a1", []byte("account"))
	must(t, err)
	_, err = conn.Exec(t.Context(), `insert into acme_accounts values ($1, 'a1', $2, now(), now())`, g.UID(), account)
	must(t, err)
	for _, owner := range []*sealer.Group{g, system} {
		key, err := owner.SealBlob("bundle_keys", "1", []byte("bundle key"))
		must(t, err)
		_, err = conn.Exec(t.Context(), `insert into bundle_keys values ($1, 1, $2, now())`, owner.UID(), key)
		must(t, err)
	}
}

// verify opens everything as a process that has just started would.
func (w *world) verify(t testing.TB) {
	t.Helper()
	r := w.replicaNamed("verifier", rotation.Config{})
	g, system := r.group(t, "a"), r.group(t, store.SystemGroup)
	must(t, w.Store.InSnapshot(t.Context(), "a", func(ctx context.Context, tx *store.Reader) error {
		head, err := tx.Head(ctx)
		must(t, err)
		must(t, g.VerifyHead(head))
		must(t, tx.Rows(ctx, func(row store.Row) error {
			record, err := g.Open(row)
			if err == nil && string(record) != row.UID+w.record {
				err = fmt.Errorf("record %q of %s", record, row.UID)
			}
			return err
		}))
		must(t, tx.Changes(ctx, func(c store.Change) error { _, err := g.OpenChange(c); return err }))
		if b, err := tx.Baseline(ctx); err == nil && b.Revision > 0 {
			_, err = g.OpenBaseline(b)
			must(t, err)
		}
		must(t, tx.BaselineRows(ctx, func(row store.Row) error { _, err := g.OpenPastRecord(row); return err }))
		return tx.AuditRows(ctx, func(row store.AuditRow) error {
			if !g.VerifyAudit(row) {
				return fmt.Errorf("audit row %d does not verify", row.Seq)
			}
			return nil
		})
	}))
	accounts, err := w.Store.AcmeAccounts(t.Context(), "a")
	must(t, err)
	for _, a := range accounts {
		_, err := g.OpenBlob("acme_accounts", a.ID, a.Sealed)
		must(t, err)
	}
	list, err := w.Store.Authorities(t.Context())
	must(t, err)
	for _, a := range list {
		_, err := system.OpenBlob("certificate_authorities", a.ID, a.Sealed)
		must(t, err)
	}
	for _, owner := range []*sealer.Group{g, system} {
		k, err := w.Store.BundleKey(t.Context(), owner.Name())
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		must(t, err)
		_, err = owner.OpenBlob("bundle_keys", "1", k.Sealed)
		must(t, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *replica) get(t testing.TB, group string) rotation.Keyring {
	t.Helper()
	k, err := r.keeper.Get(t.Context(), group)
	must(t, err)
	return k
}

// drained waits until nothing of a group is under older terms.
func (r *replica) drained(t testing.TB, group string) {
	t.Helper()
	testkit.Await(t, patience, func() error {
		k, err := r.keeper.Get(t.Context(), group)
		if err == nil && k.Remaining > 0 {
			err = fmt.Errorf("%d remain", k.Remaining)
		}
		return err
	})
}

func logger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
