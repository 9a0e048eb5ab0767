package sealer_test

import (
	"errors"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/sealer"
)

func (w *world) rotate(t *testing.T, group string) {
	t.Helper()
	if err := w.sealer.Rotate(t.Context(), group, "test", now()); err != nil {
		t.Fatalf("Rotate: %v", err)
	}
}

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
	if err := other.Rotate(t.Context(), "a", "test", now()); err != nil {
		t.Fatal(err)
	}
	if err := w.sealer.Rotate(t.Context(), "a", "test", now()); !errors.Is(err, sealer.ErrRotated) {
		t.Errorf("Rotate from an older ring = %v, want ErrRotated", err)
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
