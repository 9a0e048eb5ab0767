package configsvc_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

func TestAGroupBeginsWithSettingsAndPepper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.replica(t).fresh(t)
	if v.Revision != 1 || v.Len() != 2 {
		t.Errorf("a new group is at revision %d with %d records, want 1 and 2", v.Revision, v.Len())
	}
	if _, ok := v.Get("settings", "settings"); !ok {
		t.Error("a new group has no settings")
	}
	err := w.replica(t).CreateGroup(t.Context(), "test", "g", "")
	if err == nil || problem.Of(err).Code != problem.Conflict {
		t.Errorf("making the group again: %v, want a conflict", err)
	}
}

func TestWhatChangesNothingMakesNoRevision(t *testing.T) {
	t.Parallel()
	r := newWorld(t).replica(t)
	first := r.mustWrite(t, service("s"), consumer("c"), key(t, "c", "k", strongKey(1)))
	again := r.mustWrite(t, service("s"), consumer("c"), key(t, "c", "k", strongKey(1)))
	if again.Changed || again.Revision != first.Revision || again.Unchanged != 3 {
		t.Errorf("the same again: changed %v, revision %d after %d, %d unchanged", again.Changed, again.Revision, first.Revision, again.Unchanged)
	}
}

func TestADryRunStoresNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	res, err := r.Write(t.Context(), configsvc.Request{
		Actor: "test", Action: "resources.apply", Group: "g", DryRun: true, Changes: []admission.Change{service("s")},
	})
	if err != nil || !res.Changed || len(res.Items) != 1 {
		t.Fatalf("dry run: %+v, %v", res, err)
	}
	if v := w.replica(t).fresh(t); v.Revision != 1 {
		t.Errorf("after a dry run the group is at revision %d", v.Revision)
	}
}

func TestOneViolationStoresNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.replica(t).write(t.Context(), service("s"), route("r", "missing"), route("q", "absent"))
	var p *problem.Error
	if !errors.As(err, &p) || len(p.Problem.Violations) != 2 {
		t.Fatalf("two dangling references: %v, want two violations", err)
	}
	if v := w.replica(t).fresh(t); v.Revision != 1 || v.Len() != 2 {
		t.Errorf("after a refused write: revision %d, %d records", v.Revision, v.Len())
	}
}

// TestConcurrentWritersNeverMakeAnInvalidSet lets replicas race for what excludes each other.
func TestConcurrentWritersNeverMakeAnInvalidSet(t *testing.T) {
	t.Parallel()
	races := []struct {
		name  string
		setup []admission.Change
		one   func(t *testing.T) admission.Change
		other func(t *testing.T) admission.Change
		valid func(v *snapshot.View) bool
	}{
		{
			"delete a service while a route to it is made",
			[]admission.Change{service("s")},
			func(*testing.T) admission.Change { return remove("services", "s") },
			func(*testing.T) admission.Change { return route("r", "s") },
			func(v *snapshot.View) bool {
				_, hasService := v.Get("services", "s")
				_, hasRoute := v.Get("routes", "r")
				return hasService == hasRoute
			},
		},
		{
			"the same key for two consumers",
			[]admission.Change{consumer("a"), consumer("b")},
			func(t *testing.T) admission.Change { return key(t, "a", "k", strongKey(7)) },
			func(t *testing.T) admission.Change { return key(t, "b", "k", strongKey(7)) },
			func(v *snapshot.View) bool {
				_, a := v.Get("credentials", "a/k")
				_, b := v.Get("credentials", "b/k")
				return a != b
			},
		},
		{
			"delete a consumer while it gets a key",
			[]admission.Change{consumer("a")},
			func(*testing.T) admission.Change { return remove("consumers", "a") },
			func(t *testing.T) admission.Change { return key(t, "a", "k", strongKey(8)) },
			func(v *snapshot.View) bool {
				_, a := v.Get("consumers", "a")
				_, k := v.Get("credentials", "a/k")
				return a == k
			},
		},
	}
	for _, race := range races {
		t.Run(race.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first, second := w.replica(t), w.replica(t)
			first.mustWrite(t, race.setup...)
			var wg sync.WaitGroup
			errs := make([]error, 2)
			wg.Go(func() { _, errs[0] = first.write(t.Context(), race.one(t)) })
			wg.Go(func() { _, errs[1] = second.write(t.Context(), race.other(t)) })
			wg.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Errorf("exactly one of the two has to win: %v, %v", errs[0], errs[1])
			}
			if !race.valid(w.replica(t).fresh(t)) {
				t.Error("the set is invalid")
			}
		})
	}
}

// TestATailerSeesEveryRevisionOnceAndAscending follows one group while two replicas write it, and holds every prefix it
// has folded against the full set of that revision.
func TestATailerSeesEveryRevisionOnceAndAscending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writers := []*replica{w.replica(t), w.replica(t)}
	tail := w.replica(t)
	tail.fresh(t)
	group, err := tail.groups.Group(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	view, cursor := group.Subscribe()
	const each = 25
	var wg sync.WaitGroup
	for i, r := range writers {
		wg.Go(func() {
			for n := range each {
				if _, err := r.write(t.Context(), service(fmt.Sprintf("s%d-%d", i, n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	names := map[string]bool{}
	for r := range view.All("services") {
		names[r.Name] = true
	}
	for want := view.Revision + 1; want <= view.Revision+2*each; want++ {
		tail.fresh(t)
		c, err := cursor.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.Revision != want {
			t.Fatalf("revision %d, want %d", c.Revision, want)
		}
		for _, r := range c.Upserts {
			names[r.Name] = true
		}
	}
	full := w.replica(t).fresh(t)
	n := 0
	for r := range full.All("services") {
		n++
		if !names[r.Name] {
			t.Errorf("the tailer missed %s", r.Name)
		}
	}
	if n != len(names) || n != 2*each {
		t.Errorf("full set has %d services, tailer %d, want %d", n, len(names), 2*each)
	}
}

// TestFollowersOfRandomHistoriesAgreeWithLoaders writes random changes and compares a replica that followed all along
// with one that loads from rows.
func TestFollowersOfRandomHistoriesAgreeWithLoaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writer, follower := w.replica(t), w.replica(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		name := fmt.Sprintf("s%d", rng.IntN(8))
		change := service(name)
		if _, exists := writer.fresh(t).Get("services", name); exists && rng.IntN(3) == 0 {
			change = remove("services", name)
		}
		writer.mustWrite(t, change)
		followed, loaded := follower.fresh(t), w.replica(t).fresh(t)
		if followed.Revision != loaded.Revision || followed.Digest != loaded.Digest || followed.Len() != loaded.Len() {
			t.Fatalf("revision %d: follower and loader differ", loaded.Revision)
		}
	}
}

// TestTamperingWithRowsIsNamedAndNothingOfThemServed alters rows past the control plane, as somebody with the database
// could.
func TestTamperingWithRowsIsNamedAndNothingOfThemServed(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, statement, want string
	}{
		{"bit flipped", `update resources set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where name = 'a'`, "a"},
		{"removed", `delete from resources where name = 'a'`, "a"},
		{"renamed", `update resources set name = 'z' where name = 'a'`, "z"},
		{"labels changed", `update resources set labels = '{"x": "y"}' where name = 'a'`, "a"},
		{"moved", `update resources r set sealed = (select sealed from resources where name = 'b') where name = 'a'`, "a"},
		{"claimed to be of another revision", `update resources set revision = 1 where name = 'a'`, "a"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.replica(t)
			r.mustWrite(t, service("a"), service("b"))
			r.mustWrite(t, route("c", "b"))
			w.db.Exec(t, c.statement)
			v := w.replica(t).fresh(t)
			found := false
			for res := range v.Resources() {
				if res.Unreadable != "" {
					found = found || res.Name == c.want
					if res.Record != nil || res.Message != nil {
						t.Errorf("%s is unreadable and still has contents", res.Name)
					}
				}
			}
			if !found {
				t.Errorf("nothing named %q was found unreadable", c.want)
			}
			if b, ok := v.Get("services", "b"); !ok || b.Unreadable != "" {
				t.Error("a row that nobody touched is not readable any more")
			}
		})
	}
}

func TestARolledBackRowIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	r.mustWrite(t, service("a"))
	w.db.Exec(t, `create table stolen as select * from resources where name = 'a'`)
	r.mustWrite(t, remove("services", "a"))
	w.db.Exec(t, `insert into resources select * from stolen`)
	a, ok := w.replica(t).fresh(t).Get("services", "a")
	if !ok || a.Unreadable == "" {
		t.Errorf("a removed row that was put back: %+v", a)
	}
}

func TestAnOlderHeadIsRefusedByWhoSawTheNewer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	r.mustWrite(t, service("a"))
	w.db.Exec(t, `create table old_heads as select * from heads`)
	r.mustWrite(t, service("b"))
	w.db.Exec(t, `update heads h set revision = o.revision, digest = o.digest, resource_count = o.resource_count,
		mac = o.mac, audit_seq = o.audit_seq, audit_head = o.audit_head from old_heads o where o.group_uid = h.group_uid`)
	if _, err := r.groups.Fresh(t.Context(), "g"); !errors.Is(err, snapshot.ErrRewound) {
		t.Errorf("a rewound head: %v, want ErrRewound", err)
	}
	if _, err := r.write(t.Context(), service("c")); err == nil || problem.Of(err).Code != problem.Unavailable {
		t.Errorf("a write on a rewound head: %v, want unavailable", err)
	}
}

func TestEveryChangeIsAuditedWithoutContents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	r.mustWrite(t, consumer("c"), key(t, "c", "k", strongKey(3)))
	page, err := w.db.Store.AuditPage(t.Context(), "g", 0, 10)
	if err != nil || len(page) < 2 {
		t.Fatalf("audit page: %v, %v", page, err)
	}
	last := page[0]
	if last.Action != "resources.apply" || last.Actor != "test" || last.Revision != 2 {
		t.Errorf("last audit row: %+v", last)
	}
	if text := fmt.Sprint(page); strings.Contains(text, strongKey(3)) {
		t.Error("the audit trail holds a key")
	}
}

func TestTheSystemIsNoGroupToConfigure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.replica(t).Write(t.Context(), configsvc.Request{
		Actor: "test", Action: "resources.apply", Group: store.SystemGroup, Changes: []admission.Change{service("s")},
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a write to the system: %v, want not found", err)
	}
}
