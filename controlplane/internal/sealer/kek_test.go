package sealer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

var quiet = slog.New(slog.DiscardHandler)

// uses answers how many keyrings each key wraps, by what it is to the sealer.
func uses(t *testing.T, s *sealer.Sealer) map[kek.Role]string {
	t.Helper()
	all, err := s.KEKs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[kek.Role]string{}
	for _, u := range all {
		out[u.Role] = strings.Join(u.Groups, " ")
	}
	return out
}

func TestKeyringsMoveToAnotherKEK(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, w.a, 1, "one", "record one")
	w.rotate(t, "b")
	key := newKEK(t)
	moving := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
	if diff := cmp.Diff(map[kek.Role]string{kek.RoleCurrent: "", kek.RoleRetired: "a b system"}, uses(t, moving)); diff != "" {
		t.Error(diff)
	}
	if _, err := moving.CreateGroup(t.Context(), sealer.NewGroup{Name: "c", Actor: "test", At: now()}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{3, 0} {
		if done, err := moving.Rewrap(t.Context(), "test", quiet); err != nil || done != want {
			t.Fatalf("run %d: Rewrap = %d, %v; want %d", i, done, err, want)
		}
	}
	if diff := cmp.Diff(map[kek.Role]string{kek.RoleCurrent: "a b c system", kek.RoleRetired: ""}, uses(t, moving)); diff != "" {
		t.Error(diff)
	}
	after := sealer.New(w.Store, key)
	for _, name := range []string{"a", "b", "c", "system"} {
		g, err := after.Group(t.Context(), name)
		if err != nil {
			t.Fatalf("with the new key alone: %v", err)
		}
		if want := map[string]int32{"b": 2}[name]; want != 0 && g.KeyringVersion() != want {
			t.Errorf("group %s has keyring version %d, want %d", name, g.KeyringVersion(), want)
		}
	}
	if _, err := w.restart().Group(t.Context(), "a"); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("with the old key alone: %v", err)
	}
	rows, err := w.Store.AuditPage(t.Context(), "a", 0, 100)
	if err != nil || len(rows) == 0 || rows[0].Action != "keyring.kek" || !strings.Contains(rows[0].Detail, key.ID()) {
		t.Errorf("audit: %v, %v", rows, err)
	}
	// A replica that has only the old key notices nothing.
	if err := w.sealer.Refresh(t.Context()); err != nil {
		t.Errorf("Refresh without the new key: %v", err)
	}
	w.put(t, w.a, 2, "two", "record two")
}

func TestTwoReplicasMoveKeyringsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 6 {
		if _, err := w.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: fmt.Sprintf("g%d", i), Actor: "test", At: now()}); err != nil {
			t.Fatal(err)
		}
	}
	key := newKEK(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 3 {
		wg.Go(func() {
			s := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
			done, err := s.Rewrap(t.Context(), "test", quiet)
			if err != nil {
				t.Errorf("Rewrap: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += done
		})
	}
	wg.Go(func() { // and a rotation in between, which the mover does not undo
		if err := rotate(t, w.sealer, "g3"); err != nil {
			t.Errorf("Rotate: %v", err)
		}
	})
	wg.Wait()
	last := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
	rest, err := last.Rewrap(t.Context(), "test", quiet)
	if err != nil || total+rest < 9 || total+rest > 10 { // the ring that was rotated may have gone back to the old key
		t.Errorf("%d and %d were moved, want 9 in all: %v", total, rest, err)
	}
	g, err := sealer.New(w.Store, key).Group(t.Context(), "g3")
	if err != nil || g.KeyringVersion() != 2 {
		t.Errorf("the rotated group: %v", err)
	}
}

// onlyEncrypts is a key that may not decrypt.
type onlyEncrypts struct{ kek.Wrapper }

func (onlyEncrypts) Unwrap(context.Context, []byte, []byte) ([]byte, error) {
	return nil, kek.ErrUnavailable
}

// garbles is a key that gives back something else.
type garbles struct{ kek.Wrapper }

func (garbles) Unwrap(context.Context, []byte, []byte) ([]byte, error) { return []byte("else"), nil }

func TestNothingMovesToAKEKThatDoesNotGiveBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.Tables(t)["keyrings"]
	for name, key := range map[string]kek.Wrapper{
		"away": away{newKEK(t)}, "may not decrypt": onlyEncrypts{newKEK(t)}, "gives back something else": garbles{newKEK(t)},
	} {
		s := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
		if done, err := s.Rewrap(t.Context(), "test", quiet); done != 0 || !errors.Is(err, sealer.ErrUnavailable) {
			t.Errorf("%s: Rewrap = %d, %v", name, done, err)
		}
		if _, err := s.CreateGroup(t.Context(), sealer.NewGroup{Name: "c", At: now()}); !errors.Is(err, sealer.ErrUnavailable) {
			t.Errorf("%s: CreateGroup = %v", name, err)
		}
		if err := rotate(t, s, "a"); !errors.Is(err, sealer.ErrUnavailable) {
			t.Errorf("%s: Rotate = %v", name, err)
		}
	}
	if !bytes.Equal(before, w.Tables(t)["keyrings"]) {
		t.Error("a keyring was changed")
	}
	if err := w.read(t, "a"); err != nil {
		t.Error(err)
	}
}

func TestADamagedKeyringHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Exec(t, `update keyrings set wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1) where group_uid = '`+w.a.UID()+`'`)
	key := newKEK(t)
	s := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
	done, err := s.Rewrap(t.Context(), "test", quiet)
	if done != 2 || !errors.Is(err, sealer.ErrUnreadable) || !strings.Contains(err.Error(), "group a") {
		t.Errorf("Rewrap = %d, %v", done, err)
	}
	damaged, err := w.restart().OpenAll(t.Context())
	if len(damaged) != 0 || !errors.Is(err, sealer.ErrUnavailable) { // its key wraps only the damaged one now
		t.Errorf("OpenAll with the old key = %v, %v", damaged, err)
	}
	fresh := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
	if damaged, err = fresh.OpenAll(t.Context()); len(damaged) != 1 || err != nil {
		t.Errorf("OpenAll = %v, %v", damaged, err)
	}
}

func TestARetiredKEKThatIsAwayHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, key := newKEK(t), newKEK(t)
	for i := range 3 {
		n := sealer.NewGroup{Name: fmt.Sprintf("g%d", i), Actor: "test", At: now()}
		if _, err := sealer.NewWith(w.Store, kek.Keys{Current: gone, Next: []kek.Wrapper{w.kek}}).CreateGroup(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	s := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{away{gone}, w.kek}})
	if done, err := s.Rewrap(t.Context(), "test", quiet); done != 3 || !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("Rewrap = %d, %v", done, err)
	}
	s = sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{gone, w.kek}})
	if done, err := s.Rewrap(t.Context(), "test", quiet); done != 3 || err != nil {
		t.Errorf("Rewrap when it is back = %d, %v", done, err)
	}
}

func TestANextKeyOpensAndIsNotMovedAwayFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKEK(t)
	ahead := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
	if _, err := ahead.Rewrap(t.Context(), "test", quiet); err != nil {
		t.Fatal(err)
	}
	behind := sealer.NewWith(w.Store, kek.Keys{Current: w.kek, Next: []kek.Wrapper{key}})
	if damaged, err := behind.OpenAll(t.Context()); err != nil || len(damaged) > 0 {
		t.Errorf("OpenAll = %v, %v", damaged, err)
	}
	if done, err := behind.Rewrap(t.Context(), "test", quiet); done != 0 || err != nil {
		t.Errorf("Rewrap = %d, %v", done, err)
	}
	if diff := cmp.Diff(map[kek.Role]string{kek.RoleCurrent: "", kek.RoleNext: "a b system"}, uses(t, behind)); diff != "" {
		t.Error(diff)
	}
}

// TestOpenRingsNeedNoKEK: a replica that opened all keyrings writes on, and follows news of keyrings that did not change.
func TestOpenRingsNeedNoKEK(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := &switched{Wrapper: w.kek}
	s := sealer.New(w.Store, key)
	if damaged, err := s.OpenAll(t.Context()); err != nil || len(damaged) > 0 {
		t.Fatal(damaged, err)
	}
	key.off = true
	for _, name := range []string{"a", "b", store.SystemGroup} {
		if _, err := s.Group(t.Context(), name); err != nil {
			t.Errorf("group %s: %v", name, err)
		}
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Errorf("Refresh: %v", err)
	}
	w.rotate(t, "a")
	if err := s.Refresh(t.Context()); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("Refresh after a rotation = %v, want ErrUnavailable", err)
	}
	key.off = false
	if err := s.Refresh(t.Context()); err != nil {
		t.Errorf("Refresh with the key again: %v", err)
	}
	if g, err := s.Group(t.Context(), "a"); err != nil || g.KeyringVersion() != 2 {
		t.Errorf("the rotated ring: %v", err)
	}
}

// switched is a key that can be taken away.
type switched struct {
	kek.Wrapper
	off bool
}

func (s *switched) Unwrap(ctx context.Context, wrapContext, wrapped []byte) ([]byte, error) {
	if s.off {
		return nil, kek.ErrUnavailable
	}
	return s.Wrapper.Unwrap(ctx, wrapContext, wrapped)
}
