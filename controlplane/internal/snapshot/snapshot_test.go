package snapshot_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/testkit"
)

func TestFollowingEqualsLoading(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	follower := snapshot.NewGroup("g", db, testkit.Logger(t))
	steps := []func(){
		func() { db.commit([]*configv1.Route{route("a", "s"), route("b", "s")}) },
		func() { db.commit([]*configv1.Route{route("a", "s2")}) },
		func() { db.commit([]*configv1.Route{route("c", "s")}, "uid-b") },
		func() { db.commit(nil, "uid-a", "uid-c") },
	}
	for i, step := range steps {
		step()
		followed := catchUp(t, follower, db)
		loaded := catchUp(t, snapshot.NewGroup("g", db, testkit.Logger(t)), db)
		if diff := cmp.Diff(seen(loaded), seen(followed)); diff != "" {
			t.Errorf("step %d: loaded and followed sets differ:\n%s", i, diff)
		}
		if followed.Digest != loaded.Digest || followed.Digest != db.digest.Sum() {
			t.Errorf("step %d: digests differ", i)
		}
	}
}

func TestAViewStaysAsItWasTaken(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	g := snapshot.NewGroup("g", db, testkit.Logger(t))
	db.commit([]*configv1.Route{route("a", "s")})
	first := catchUp(t, g, db)
	db.commit([]*configv1.Route{route("b", "s")}, "uid-a")
	catchUp(t, g, db)
	if got := seen(first); !slices.Equal(got, []string{"a@1"}) {
		t.Errorf("the first view now shows %v", got)
	}
}

func TestReferencesAreFound(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	g := snapshot.NewGroup("g", db, testkit.Logger(t))
	db.commit([]*configv1.Route{route("a", "s"), route("b", "s"), route("c", "other")})
	db.commit([]*configv1.Route{route("a", "other")})
	var users []string
	for ref := range catchUp(t, g, db).References("services", "s") {
		users = append(users, ref.Name)
	}
	if !slices.Equal(users, []string{"b"}) {
		t.Errorf("users of service s = %v, want [b]", users)
	}
}

func TestClaimsAndMarksFollowTheChanges(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	g := snapshot.NewGroup("g", db, testkit.Logger(t))
	at := func(name, host string) *configv1.Route {
		return &configv1.Route{Name: name, Service: "s", Hosts: []string{host}, Paths: []*configv1.PathMatch{
			{Match: &configv1.PathMatch_Regex{Regex: "/x"}},
		}}
	}
	holders := func(v *snapshot.View, host string) (out []string) {
		for claim := range claims.Of(at("", host)) {
			if ref, ok := v.Claimant(claim); ok {
				out = append(out, ref.Name)
			}
		}
		for ref := range v.References(claims.RegexHost, host) {
			out = append(out, ref.Name)
		}
		return out
	}
	expect := func(v *snapshot.View, host string, want ...string) {
		t.Helper()
		if got := holders(v, host); !slices.Equal(got, want) {
			t.Errorf("revision %d: %s is held by %v, want %v", v.Revision, host, got, want)
		}
	}
	db.commit([]*configv1.Route{at("a", "one"), at("b", "two")})
	first := catchUp(t, g, db)
	db.commit([]*configv1.Route{at("a", "two"), at("b", "one")}) // they change places in one revision
	swapped := catchUp(t, g, db)
	db.commit(nil, "uid-a")
	last := catchUp(t, g, db)
	expect(first, "one", "a", "a")
	expect(swapped, "one", "b", "b")
	expect(swapped, "two", "a", "a")
	expect(last, "two")
	expect(last, "one", "b", "b")
}

// TestTamperingIsNamed holds the stored rows against the history: whatever was done to a row, it is named, unreadable,
// and nothing of it is served, while the rest stays.
func TestTamperingIsNamed(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		tamper func(*database)
		want   []string
	}{
		{"row does not open", func(d *database) {
			d.rows["uid-a"] = withSealed(d.rows["uid-a"], []byte("broken"))
		}, []string{"a!does not open", "b@1"}},
		{"row removed", func(d *database) { delete(d.rows, "uid-a") }, []string{"a!the row is missing", "b@1"}},
		{"row rolled back", func(d *database) {
			old := withSealed(d.rows["uid-a"], marshal(t, "routes", "uid-a", "a", route("a", "s")))
			old.Revision = 1
			d.rows["uid-a"] = old
		}, []string{"a!the row is of revision 1, the last change was in 2", "b@1"}},
		{"removed row put back", func(d *database) {
			d.rows["uid-gone"] = store.Row{
				Kind: "routes", UID: "uid-gone", Name: "gone", Revision: 1,
				Sealed: marshal(t, "routes", "uid-gone", "gone", route("gone", "s")),
			}
		}, []string{"a@2", "b@1", "gone!the row is in no revision"}},
		{"row of another place", func(d *database) {
			d.rows["uid-a"] = withSealed(d.rows["uid-a"], d.rows["uid-b"].Sealed)
		}, []string{"a!the record belongs to another place", "b@1"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t)
			db.commit([]*configv1.Route{route("a", "s"), route("b", "s"), route("gone", "s")})
			db.commit([]*configv1.Route{route("a", "s2")}, "uid-gone")
			c.tamper(db)
			pruned := *db
			pruned.drop()
			for name, db := range map[string]*database{"all kept": db, "the first dropped": &pruned} {
				if diff := cmp.Diff(c.want, seen(catchUp(t, snapshot.NewGroup("g", db, testkit.Logger(t)), db))); diff != "" {
					t.Errorf("%s: set (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

func TestAWriteHealsAnUnreadableRow(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.commit([]*configv1.Route{route("a", "s"), route("b", "s")})
	db.rows["uid-a"] = withSealed(db.rows["uid-a"], []byte("broken"))
	g := snapshot.NewGroup("g", db, testkit.Logger(t))
	catchUp(t, g, db)
	db.commit([]*configv1.Route{route("a", "s2")})
	healed := catchUp(t, g, db)
	if got := seen(healed); !slices.Equal(got, []string{"a@2", "b@1"}) {
		t.Errorf("after the write: %v", got)
	}
	if healed.Digest != db.digest.Sum() {
		t.Error("the digest is not that of the set")
	}
}

func TestADifferenceWithoutANameRefusesTheGroup(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.commit([]*configv1.Route{route("a", "s")})
	db.commit([]*configv1.Route{route("b", "s")})
	db.changes = db.changes[1:]
	delete(db.rows, "uid-a")
	if _, err := snapshot.NewGroup("g", db, testkit.Logger(t)).CatchUp(t.Context(), db); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("CatchUp = %v, want ErrDamaged", err)
	}
}

func TestABaselineThatDoesNotOpenRefusesTheGroup(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.commit([]*configv1.Route{route("a", "s")})
	db.commit([]*configv1.Route{route("b", "s")})
	db.drop()
	db.past[0].Sealed = []byte("broken")
	catchUp(t, snapshot.NewGroup("g", db, testkit.Logger(t)), db) // nobody needs it while the rows are good
	delete(db.rows, "uid-a")
	if _, err := snapshot.NewGroup("g", db, testkit.Logger(t)).CatchUp(t.Context(), db); !errors.Is(err, errBroken) {
		t.Errorf("CatchUp = %v, want the baseline named", err)
	}
}

func TestARewoundDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.commit([]*configv1.Route{route("a", "s")})
	before := *db
	db.commit([]*configv1.Route{route("b", "s")})
	g := snapshot.NewGroup("g", db, testkit.Logger(t))
	catchUp(t, g, db)
	if _, err := g.CatchUp(t.Context(), &before); !errors.Is(err, snapshot.ErrRewound) {
		t.Errorf("CatchUp = %v, want ErrRewound", err)
	}
}

func TestACursorSeesEveryChangeOnceAndInOrder(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	g := snapshot.NewGroup("g", db, testkit.Logger(t))
	db.commit([]*configv1.Route{route("a", "s")})
	catchUp(t, g, db)
	_, cursor := g.Subscribe()
	const n = 50
	got := make(chan int64, n)
	go func() {
		defer close(got)
		for range n {
			c, err := cursor.Next(t.Context())
			if err != nil {
				t.Errorf("Next: %v", err)
				return
			}
			got <- c.Revision
		}
	}()
	for range n {
		db.commit([]*configv1.Route{route("a", "s")})
		catchUp(t, g, db)
	}
	want := int64(2)
	for revision := range got {
		if revision != want {
			t.Fatalf("revision %d, want %d", revision, want)
		}
		want++
	}
}

func TestACursorThatIsTooSlowIsTold(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	g := snapshot.NewGroup("g", db, testkit.Logger(t))
	db.commit([]*configv1.Route{route("a", "s")})
	catchUp(t, g, db)
	_, cursor := g.Subscribe()
	for range 2000 {
		db.commit(nil)
	}
	catchUp(t, g, db)
	if _, err := cursor.Next(t.Context()); !errors.Is(err, snapshot.ErrTooOld) {
		t.Errorf("Next = %v, want ErrTooOld", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	_, fresh := g.Subscribe()
	if _, err := fresh.Next(ctx); !errors.Is(err, stopped) {
		t.Errorf("Next = %v, want the cause of the context's end", err)
	}
}

func catchUp(t *testing.T, g *snapshot.Group, db *database) *snapshot.View {
	t.Helper()
	v, err := g.CatchUp(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func withSealed(row store.Row, sealed []byte) store.Row {
	row.Sealed = sealed
	return row
}
