package sealer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/digest"
)

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func uid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func newKEK(t *testing.T) *file.Key {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	k, err := file.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// world is a database with two groups and what one replica knows of it.
type world struct {
	*storetest.DB
	kek    *file.Key
	sealer *sealer.Sealer
	a, b   *sealer.Group
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{DB: storetest.New(t), kek: newKEK(t)}
	w.sealer = sealer.New(w.Store, w.kek)
	if created, err := w.sealer.Init(t.Context(), "test", now()); err != nil || !created {
		t.Fatalf("Init = %v, %v", created, err)
	}
	for name, g := range map[string]**sealer.Group{"a": &w.a, "b": &w.b} {
		made, err := w.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: name, Actor: "test", At: now()})
		if err != nil {
			t.Fatalf("CreateGroup: %v", err)
		}
		*g = made
	}
	return w
}

// restart answers the sealer of a process that has just started with the same key.
func (w *world) restart() *sealer.Sealer { return sealer.New(w.Store, w.kek) }

// put writes a revision with one route, as the write path does.
func (w *world) put(t *testing.T, g *sealer.Group, n int, name, record string) {
	t.Helper()
	err := w.Store.InGroup(t.Context(), g.Name(), func(ctx context.Context, tx *store.GroupTx) error {
		return write(ctx, tx, g, n, name, record)
	})
	if err != nil {
		t.Fatalf("put: %v", err)
	}
}

func write(ctx context.Context, tx *store.GroupTx, g *sealer.Group, n int, name, record string) error {
	head := tx.Head()
	if err := g.VerifyHead(head); err != nil {
		return err
	}
	head.Revision++
	labels := map[string]string{"team": "x"}
	sealed, err := g.Seal("routes", uid(n), name, labels, head.Revision, []byte(record))
	if err != nil {
		return err
	}
	body, err := g.SealChange(head.Revision, []byte("change of "+record))
	if err != nil {
		return err
	}
	row := store.Row{
		Kind: "routes", UID: uid(n), Name: name, Labels: labels, Revision: head.Revision, Sealed: sealed, CreatedAt: now(), UpdatedAt: now(),
	}
	if err := tx.Put(ctx, []store.Row{row}); err != nil {
		return err
	}
	change := store.Change{Revision: head.Revision, Epoch: head.Epoch, Sealed: body, At: now(), Actor: "test"}
	if err := tx.AppendChange(ctx, change); err != nil {
		return err
	}
	if head.Digest, head.ResourceCount, err = set(ctx, tx.Reader(), g); err != nil {
		return err
	}
	head, err = audit.Append(ctx, tx, g, head, audit.Event{
		At: now(), Actor: "test", Action: "resources.apply", Subjects: []string{"routes/" + name}, Revision: head.Revision,
	})
	if err != nil {
		return err
	}
	head.MAC = g.MACHead(head)
	return tx.SetHead(ctx, head)
}

// set opens all rows: what a replica does when it loads a group.
func set(ctx context.Context, r *store.Reader, g *sealer.Group) (sum [32]byte, count int64, err error) {
	var d digest.Set
	err = r.Rows(ctx, func(row store.Row) error {
		record, err := g.Open(row)
		if err != nil {
			return err
		}
		d.Add(row.Kind, row.UID, record)
		count++
		return nil
	})
	return d.Sum(), count, err
}

// read loads a group as a process that has just started would, and says what is wrong.
func (w *world) read(t *testing.T, group string) error {
	t.Helper()
	g, err := w.restart().Group(t.Context(), group)
	if err != nil {
		return err
	}
	return w.Store.InSnapshot(t.Context(), group, func(ctx context.Context, r *store.Reader) error {
		head, err := r.Head(ctx)
		if err != nil {
			return err
		}
		if err := g.VerifyHead(head); err != nil {
			return err
		}
		sum, count, err := set(ctx, r, g)
		if err != nil {
			return err
		}
		if count != head.ResourceCount || sum != head.Digest {
			return fmt.Errorf("set of %d rows does not match the head", count)
		}
		changes, err := r.ChangesSince(ctx, 0, 0)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if _, err := g.OpenChange(c); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestWhatWasSealedOpensAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, w.a, 1, "one", "record one")
	w.put(t, w.a, 2, "two", "record two")
	if err := w.read(t, "a"); err != nil {
		t.Fatal(err)
	}
	g, err := w.restart().Group(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	var records []string
	err = w.Store.Rows(t.Context(), "a", func(row store.Row) error {
		record, err := g.Open(row)
		records = append(records, string(record))
		return err
	})
	if err != nil || strings.Join(records, ",") != "record one,record two" {
		t.Errorf("records = %v, %v", records, err)
	}
	changes, err := w.Store.ChangesSince(t.Context(), "a", 1, 0)
	if err != nil || len(changes) != 1 {
		t.Fatalf("changes: %v", err)
	}
	if body, err := g.OpenChange(changes[0]); err != nil || string(body) != "change of record two" {
		t.Errorf("change = %q, %v", body, err)
	}
}

func TestAnotherKEKIsNamedAndRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := newKEK(t)
	_, err := sealer.New(w.Store, other).Group(t.Context(), "a")
	missing, ok := errors.AsType[*sealer.MissingKEKError](err)
	if !errors.Is(err, sealer.ErrUnavailable) || !ok || missing.Group != "a" || errors.Is(err, sealer.ErrUnreadable) {
		t.Fatalf("err = %v", err)
	}
	for _, want := range []string{"keyrings of group a", w.kek.ID(), other.ID()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}

func TestARelabelledForeignKEKDoesNotUnwrap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := newKEK(t)
	w.Exec(t, `update keyrings set kek_id = '`+other.ID()+`'`)
	if _, err := sealer.New(w.Store, other).Group(t.Context(), "a"); !errors.Is(err, sealer.ErrUnreadable) {
		t.Errorf("err = %v, want ErrUnreadable", err)
	}
}

// away is a key-encryption key that cannot be reached.
type away struct{ kek.Wrapper }

func (away) Wrap(context.Context, []byte, []byte) ([]byte, error) { return nil, kek.ErrUnavailable }

func (away) Unwrap(context.Context, []byte, []byte) ([]byte, error) { return nil, kek.ErrUnavailable }

func TestWithoutItsKEKNothingNewIsMadeAndOpenRingsGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := sealer.New(w.Store, away{w.kek})
	if _, err := s.Group(t.Context(), "a"); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("Group = %v, want ErrUnavailable", err)
	}
	if _, err := s.CreateGroup(t.Context(), sealer.NewGroup{Name: "c", At: now()}); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("CreateGroup = %v, want ErrUnavailable", err)
	}
	if _, err := w.Store.Group(t.Context(), "c"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the group was stored: %v", err)
	}
	w.put(t, w.a, 1, "one", "record") // by the sealer that has its rings already
}

func TestInitIsDoneOnce(t *testing.T) {
	t.Parallel()
	db, key := storetest.New(t), newKEK(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	created := 0
	for range 4 {
		wg.Go(func() {
			c, err := sealer.New(db.Store, key).Init(t.Context(), "test", now())
			if err != nil {
				t.Errorf("Init: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if c {
				created++
			}
		})
	}
	wg.Wait()
	if created != 1 {
		t.Errorf("%d replicas created the system, want 1", created)
	}
}

func TestALostSystemIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Exec(t, `delete from keyrings where group_uid = '`+store.SystemUID+`'`)
	s := w.restart()
	if created, err := s.Init(t.Context(), "test", now()); !errors.Is(err, sealer.ErrUnreadable) || created {
		t.Errorf("Init = %v, %v; want ErrUnreadable", created, err)
	}
}

func TestAGroupIsMadeWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	boom := errors.New("boom")
	fill := func(fail error) func(context.Context, *store.GroupTx, *sealer.Group) error {
		return func(ctx context.Context, tx *store.GroupTx, g *sealer.Group) error {
			return errors.Join(write(ctx, tx, g, 9, "first", "record"), fail)
		}
	}
	if _, err := w.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: "c", At: now(), Fill: fill(boom)}); !errors.Is(err, boom) {
		t.Fatalf("CreateGroup = %v, want boom", err)
	}
	if _, err := w.sealer.Group(t.Context(), "c"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the group was stored: %v", err)
	}
	if _, err := w.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: "c", At: now(), Fill: fill(nil)}); err != nil {
		t.Fatal(err)
	}
	if err := w.read(t, "c"); err != nil {
		t.Error(err)
	}
	for _, taken := range []string{"c", store.SystemGroup} {
		if _, err := w.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: taken, At: now()}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("CreateGroup(%s) again = %v, want ErrConflict", taken, err)
		}
	}
}

func TestTokensPutPastTheControlPlaneDoNotVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	system, err := w.sealer.System(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	admin := store.AdminToken{
		ID: "a1", Name: "ci", SecretHash: []byte{1}, Grants: []store.Grant{{Group: "a", Role: "viewer"}}, CreatedAt: now(), CreatedBy: "root",
	}
	admin.MAC = system.MACAdminToken(admin)
	if err := system.VerifyAdminToken(admin); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*store.AdminToken){
		"role":    func(a *store.AdminToken) { a.Grants = []store.Grant{{Group: "a", Role: "admin"}} },
		"group":   func(a *store.AdminToken) { a.Grants = []store.Grant{{Group: "*", Role: "viewer"}} },
		"secret":  func(a *store.AdminToken) { a.SecretHash = []byte{2} },
		"expiry":  func(a *store.AdminToken) { a.ExpiresAt = now() },
		"no mac":  func(a *store.AdminToken) { a.MAC = nil },
		"deleted": func(a *store.AdminToken) { a.DeletedAt = now() },
	} {
		forged := admin
		change(&forged)
		if err := system.VerifyAdminToken(forged); !errors.Is(err, sealer.ErrUnreadable) {
			t.Errorf("admin token, %s: %v", name, err)
		}
	}
	join := store.JoinToken{ID: "j1", SecretHash: []byte{1}, Uses: 1, CreatedAt: now(), ExpiresAt: now().Add(time.Hour)}
	join.MAC = w.a.MACJoinToken(join)
	used := join
	used.Used = 1
	if err := errors.Join(w.a.VerifyJoinToken(join), w.a.VerifyJoinToken(used)); err != nil {
		t.Fatal(err)
	}
	more := join
	more.Uses = 100
	for name, err := range map[string]error{"more uses": w.a.VerifyJoinToken(more), "another group": w.b.VerifyJoinToken(join)} {
		if !errors.Is(err, sealer.ErrUnreadable) {
			t.Errorf("join token, %s: %v", name, err)
		}
	}
}

func TestABlobOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sealed, err := w.a.SealBlob("certificate_authorities", "c1", []byte("private"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.a.OpenBlob("certificate_authorities", "c1", sealed); err != nil || !bytes.Equal(got, []byte("private")) {
		t.Errorf("OpenBlob = %q, %v", got, err)
	}
	_, errID := w.a.OpenBlob("certificate_authorities", "c2", sealed)
	_, errPurpose := w.a.OpenBlob("other", "c1", sealed)
	_, errGroup := w.b.OpenBlob("certificate_authorities", "c1", sealed)
	for name, err := range map[string]error{"id": errID, "purpose": errPurpose, "group": errGroup} {
		if !errors.Is(err, sealer.ErrUnreadable) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestABaselineOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sealed, err := w.a.SealPastRecord("routes", uid(1), 3, []byte("record"))
	if err != nil {
		t.Fatal(err)
	}
	row := store.Row{Kind: "routes", UID: uid(1), Revision: 3, Sealed: sealed}
	if got, err := w.a.OpenPastRecord(row); err != nil || string(got) != "record" {
		t.Errorf("OpenPastRecord = %q, %v", got, err)
	}
	state, err := w.a.SealBaseline(3, []byte("state"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.a.OpenBaseline(store.Baseline{Revision: 3, Sealed: state}); err != nil || string(got) != "state" {
		t.Errorf("OpenBaseline = %q, %v", got, err)
	}
	kind, id, revision := row, row, row
	kind.Kind, id.UID, revision.Revision = "services", uid(2), 4
	for name, open := range map[string]func() ([]byte, error){
		"record of another kind":       func() ([]byte, error) { return w.a.OpenPastRecord(kind) },
		"record of another uid":        func() ([]byte, error) { return w.a.OpenPastRecord(id) },
		"record of another revision":   func() ([]byte, error) { return w.a.OpenPastRecord(revision) },
		"record of another group":      func() ([]byte, error) { return w.b.OpenPastRecord(row) },
		"record as a resource":         func() ([]byte, error) { return w.a.Open(row) },
		"baseline of another revision": func() ([]byte, error) { return w.a.OpenBaseline(store.Baseline{Revision: 4, Sealed: state}) },
		"baseline of another group":    func() ([]byte, error) { return w.b.OpenBaseline(store.Baseline{Revision: 3, Sealed: state}) },
		"baseline as a change":         func() ([]byte, error) { return w.a.OpenChange(store.Change{Revision: 3, Sealed: state}) },
	} {
		if _, err := open(); !errors.Is(err, sealer.ErrUnreadable) {
			t.Errorf("%s: %v, want ErrUnreadable", name, err)
		}
	}
}
