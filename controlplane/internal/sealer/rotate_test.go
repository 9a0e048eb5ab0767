package sealer_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

func (w *world) rotate(t *testing.T, group string) {
	t.Helper()
	if err := rotate(t, w.sealer, group); err != nil {
		t.Fatalf("rotate: %v", err)
	}
}

// rotate is both steps at once, without asking whether other replicas have read anything.
func rotate(t *testing.T, s *sealer.Sealer, group string) error {
	t.Helper()
	next, err := s.Prepare(t.Context(), sealer.Plan{Group: group, Action: sealer.Rotate, Actor: "test", At: now()})
	if err != nil {
		return err
	}
	return s.Commit(t.Context(), group, next.ID, now(), always)
}

func always(context.Context, *store.GroupTx) error { return nil }

func TestARotatedRingOpensTheOldAndSealsWithTheNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, w.a, 1, "one", "record one")
	w.rotate(t, "a")
	w.put(t, w.a, 2, "two", "record two")
	if err := w.read(t, "a"); err != nil {
		t.Fatal(err)
	}
	sealed, err := w.a.SealBlob("x", "y", nil)
	if err != nil {
		t.Fatal(err)
	}
	if term, err := keyring.Term(sealed); term != 2 || err != nil {
		t.Errorf("sealed with term %d, %v; want 2", term, err)
	}
}

func TestAnotherReplicaFollowsARotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.restart()
	g, err := other.Group(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	w.rotate(t, "a")
	head, err := w.Store.Head(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.VerifyHead(head); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("VerifyHead before Refresh = %v, want ErrUnavailable", err)
	}
	if err := other.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.VerifyHead(head); err != nil || g.KeyringVersion() != 2 {
		t.Errorf("after Refresh: version %d, %v", g.KeyringVersion(), err)
	}
	if err := rotate(t, other, "a"); err != nil {
		t.Fatal(err)
	}
	if err := rotate(t, w.sealer, "a"); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("rotate from an older ring = %v, want ErrUnavailable", err)
	}
}

func TestAnOlderKeyringIsNamedAndRefused(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"a", "system"} {
		for name, tc := range map[string]struct {
			tamper []string
			want   string
		}{
			"row as it was": {
				[]string{`update keyrings k set version = o.version, wrapped = o.wrapped from old_keyrings o where o.group_uid = k.group_uid`},
				"has version 1, the head says 2",
			},
			"row with its version corrected": {
				[]string{`update keyrings k set wrapped = o.wrapped from old_keyrings o where o.group_uid = k.group_uid`},
				"does not unwrap",
			},
			"row as it was, head corrected": {
				[]string{
					`update keyrings k set version = o.version, wrapped = o.wrapped from old_keyrings o where o.group_uid = k.group_uid`,
					`update heads h set keyring_version = 1 from old_keyrings o where o.group_uid = h.group_uid`,
				},
				"MAC does not verify",
			},
		} {
			t.Run(group+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.Exec(t, `create table old_keyrings as select k.* from keyrings k join groups g on g.uid = k.group_uid where g.name = '`+group+`'`)
				w.rotate(t, group)
				w.Exec(t, tc.tamper...)
				_, err := w.restart().Group(t.Context(), group)
				if !errors.Is(err, sealer.ErrUnreadable) || !strings.Contains(err.Error(), "group "+group) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("Group = %v, want %q", err, tc.want)
				}
				if err := w.sealer.Refresh(t.Context()); !errors.Is(err, sealer.ErrUnreadable) {
					t.Errorf("Refresh of a running replica = %v, want ErrUnreadable", err)
				}
				if g, err := w.sealer.Group(t.Context(), group); err != nil || g.KeyringVersion() != 2 {
					t.Errorf("the running replica lost its ring: %v", err)
				}
			})
		}
	}
}

func TestARunningReplicaRefusesAWholeOlderState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Exec(t, `create table old_keyrings as table keyrings`, `create table old_heads as table heads`)
	w.rotate(t, "a")
	w.Exec(t,
		`update keyrings k set version = o.version, wrapped = o.wrapped from old_keyrings o where o.group_uid = k.group_uid`,
		`delete from heads`, `insert into heads table old_heads`)
	if err := w.sealer.Refresh(t.Context()); !errors.Is(err, sealer.ErrUnreadable) || !strings.Contains(err.Error(), "version 2 of ") {
		t.Errorf("Refresh = %v", err)
	}
	head, err := w.Store.Head(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.a.VerifyHead(head); !errors.Is(err, sealer.ErrUnreadable) || !strings.Contains(err.Error(), "older head") {
		t.Errorf("VerifyHead = %v", err)
	}
}

// TestAReaderThatARotationOvertakesLooksAgain: its head is older than the keyring, and nobody put it there.
func TestAReaderThatARotationOvertakesLooksAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	looks := 0
	err := w.Store.InSnapshot(t.Context(), "a", func(ctx context.Context, r *store.Reader) error {
		head, err := r.Head(ctx)
		if err != nil {
			return err
		}
		if looks++; looks == 1 {
			w.rotate(t, "a")
		}
		return w.a.VerifyHead(head)
	})
	if err != nil || looks != 2 {
		t.Errorf("%d looks: %v", looks, err)
	}
	err = w.Store.InSnapshot(t.Context(), "a", func(context.Context, *store.Reader) error {
		looks++
		return store.ErrOutrun
	})
	if !errors.Is(err, store.ErrOutrun) || looks != 4 {
		t.Errorf("a reader that is never content: %d looks, %v", looks-2, err)
	}
}

// flaky is a key-encryption key that can go away.
type flaky struct {
	kek.Wrapper
	down atomic.Bool
}

func (f *flaky) Unwrap(ctx context.Context, about, wrapped []byte) ([]byte, error) {
	if f.down.Load() {
		return nil, kek.ErrUnavailable
	}
	return f.Wrapper.Unwrap(ctx, about, wrapped)
}

// TestWhatWasReadIsTakenFromMemory: the key-encryption key is asked before the rotation, not by who meets the new head.
func TestWhatWasReadIsTakenFromMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := &flaky{Wrapper: w.kek}
	other := sealer.New(w.Store, key)
	g, err := other.Group(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	next, err := w.sealer.Prepare(t.Context(), sealer.Plan{Group: "a", Action: sealer.Rotate, Actor: "test", At: now()})
	if err != nil {
		t.Fatal(err)
	}
	if read, err := other.ReadNext(t.Context()); err != nil || len(read) != 1 || read[0].ID != next.ID {
		t.Fatalf("ReadNext = %v, %v", read, err)
	}
	if sealed, err := g.SealBlob("x", "y", nil); err != nil || sealed[4] != 1 {
		t.Errorf("sealed with term %d before the commit: %v", sealed[4], err)
	}
	if err := w.sealer.Commit(t.Context(), "a", next.ID, now(), always); err != nil {
		t.Fatal(err)
	}
	key.down.Store(true)
	head, err := w.Store.Head(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.VerifyHead(head); err != nil {
		t.Errorf("VerifyHead = %v", err)
	}
	if sealed, err := g.SealBlob("x", "y", nil); err != nil || sealed[4] != 2 {
		t.Errorf("sealed with term %d after it: %v", sealed[4], err)
	}
}
