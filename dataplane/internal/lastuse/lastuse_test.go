package lastuse_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/lastuse"
)

// table is parts of marks by uid.
type table []map[string]*lastuse.Mark

func (t table) Parts() int { return len(t) }

func (t table) Marks(part int, yield func(string, *lastuse.Mark) bool) { maps.All(t[part])(yield) }

// newTable has n credentials, numbered, over some parts.
func newTable(parts, n int) (table, []*lastuse.Mark) {
	t, marks := make(table, parts), make([]*lastuse.Mark, n)
	for i := range t {
		t[i] = map[string]*lastuse.Mark{}
	}
	for i := range marks {
		marks[i] = &lastuse.Mark{}
		t[i%parts][fmt.Sprint(i)] = marks[i]
	}
	return t, marks
}

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestUsesAreNotedOnceInAPeriod(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		after time.Duration // after one that was reported
		want  bool
	}{
		{"the same moment", 0, false},
		{"just before the period has passed", lastuse.Period - time.Second, false},
		{"when it has passed", lastuse.Period, true},
		{"long after", 9000 * time.Hour, true},
		{"a clock that runs a little behind", -time.Minute, false},
		{"a clock that was put back", -lastuse.Period, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all, marks := newTable(4, 1)
			w := lastuse.NewWalk()
			if got := w.Take(all); len(got) != 0 {
				t.Fatalf("before any use: %v", got)
			}
			marks[0].Note(start)
			first := w.Take(all)
			if len(first) != 1 || first[0].UID != "0" || !first[0].At.Equal(start) {
				t.Fatalf("the first use: %v", first)
			}
			first[0].Reported()
			marks[0].Note(start.Add(tt.after))
			got := w.Take(all)
			if (len(got) == 1) != tt.want || tt.want && !got[0].At.Equal(start.Add(tt.after)) {
				t.Errorf("after %s: %v, want it reported: %t", tt.after, got, tt.want)
			}
		})
	}
}

func TestUsesAreTakenUntilTheyAreReported(t *testing.T) {
	t.Parallel()
	all, marks := newTable(1, 1)
	w := lastuse.NewWalk()
	take := func(want int) []lastuse.Use {
		t.Helper()
		got := w.Take(all)
		if len(got) != want {
			t.Fatalf("%d uses, want %d", len(got), want)
		}
		return got
	}
	marks[0].Note(start)
	old := take(1)[0]
	take(1)
	old.Reported()
	take(0)
	old.Lost()
	take(1)
	marks[0].Note(start.Add(lastuse.Period))
	old.Reported() // it was, but something newer is to be
	newer := take(1)[0]
	newer.Reported()
	old.Lost()
	take(0)
	if !newer.At.Equal(start.Add(lastuse.Period)) {
		t.Errorf("the newer use was at %s", newer.At)
	}
}

func TestNobodysMarkIsNoted(t *testing.T) {
	t.Parallel()
	var m *lastuse.Mark
	m.Note(start) // does not panic
}

// However many are used at once, each is reported once, in reports that are bounded.
func TestWalksReachEverybody(t *testing.T) {
	t.Parallel()
	const n = 30_000
	all, marks := newTable(16, n)
	for _, m := range marks {
		m.Note(start)
	}
	w, seen := lastuse.NewWalk(), map[string]int{}
	for range 20 {
		uses := w.Take(all)
		if len(uses) > 4000 {
			t.Fatalf("a report of %d", len(uses))
		}
		for _, u := range uses {
			seen[u.UID]++
			u.Reported()
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d were reported", len(seen), n)
	}
	for uid, times := range seen {
		if times != 1 {
			t.Errorf("%s was reported %d times", uid, times)
		}
	}
}

func TestWalksAreBounded(t *testing.T) {
	t.Parallel()
	const n = 250_000
	all, marks := newTable(1024, n)
	marks[n-1].Note(start)
	w := lastuse.NewWalk()
	walks := 0
	for found := 0; found == 0; walks++ {
		if walks == 4 {
			t.Fatal("it was not found in four walks of 100,000")
		}
		found = len(w.Take(all))
	}
	empty := lastuse.NewWalk()
	if got := empty.Take(table{}); got != nil {
		t.Errorf("of no table: %v", got)
	}
}

func TestNotingDoesNotAllocate(t *testing.T) {
	m, at := &lastuse.Mark{}, start
	if n := testing.AllocsPerRun(1000, func() {
		m.Note(at)
		at = at.Add(10 * time.Minute)
	}); n != 0 {
		t.Errorf("%v allocations a use", n)
	}
}

func BenchmarkNote(b *testing.B) {
	m := &lastuse.Mark{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Note(start)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		all, _ := newTable(1024, n)
		w := lastuse.NewWalk()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				w.Take(all)
			}
		})
	}
}

// TestLookingForUsesAllocatesOnce holds that it costs no more in a table of many parts, and while requests pass.
func TestLookingForUsesAllocatesOnce(t *testing.T) {
	all, _ := newTable(1024, 10)
	w := lastuse.NewWalk()
	if n := testing.AllocsPerRun(20, func() { w.Take(all) }); n > 4 {
		t.Errorf("it allocates %v times, want at most 4", n)
	}
}
