package balance_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream/balance"
)

const second = int64(time.Second)

// world is a group with targets named by their place.
type world struct {
	group   *balance.Group
	members []balance.Member
}

func newWorld(weights ...int) *world {
	w := &world{group: balance.NewGroup()}
	for i, weight := range weights {
		w.members = append(w.members, balance.Member{Target: w.group.Join(fmt.Sprint("10.0.0.", i, ":80"), true, 0), Weight: weight})
	}
	return w
}

func (w *world) set(c runtime.Balancer) *balance.Set { return balance.NewSet(w.group, w.members, c, 0) }

func pick(t *testing.T, s *balance.Set, now int64, hash uint64) int {
	t.Helper()
	i, ok := s.Pick(now, hash, &balance.Tried{})
	if !ok {
		t.Fatal("no target")
	}
	return i
}

// shares picks often and returns how often each member was picked.
func shares(t *testing.T, s *balance.Set, now int64, members, picks int) []int {
	t.Helper()
	out := make([]int, members)
	for i := range picks {
		out[pick(t, s, now, balance.Hash(fmt.Append(nil, "key", i)))]++
	}
	return out
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance }

func TestRoundRobinKeepsWeightsExactly(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]int{{1, 1}, {5, 1, 1}, {100, 100, 50}, {0, 7, 3}, {65535, 1}, {3}, {1000, 999, 998}} {
		w := newWorld(weights...)
		s := w.set(runtime.Balancer{})
		sum := 0
		for _, n := range weights {
			sum += n
		}
		got := shares(t, s, 0, len(weights), sum)
		for i, n := range weights {
			tolerance := 0.0
			if sum > 1024 {
				tolerance = math.Max(float64(sum)/400, 70)
			}
			if !near(float64(got[i]), float64(n), tolerance) {
				t.Errorf("weights %v: picked %v times", weights, got)
				break
			}
		}
	}
}

// Turns are spread evenly: a heavy target does not get all of its turns at once.
func TestRoundRobinIsSmooth(t *testing.T) {
	t.Parallel()
	w := newWorld(5, 1, 1)
	s := w.set(runtime.Balancer{})
	run, longest := 0, 0
	for range 700 {
		if pick(t, s, 0, 0) == 0 {
			run++
		} else {
			run = 0
		}
		longest = max(longest, run)
	}
	if longest > 5 {
		t.Errorf("%d turns in a row", longest)
	}
	equal := newWorld(1, 1).set(runtime.Balancer{})
	before := pick(t, equal, 0, 0)
	for range 100 {
		next := pick(t, equal, 0, 0)
		if next == before {
			t.Fatal("twice the same of two equal targets")
		}
		before = next
	}
}

func TestLeastConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(100, 100, 200)
	s := w.set(runtime.Balancer{Algorithm: runtime.LeastConnections})
	for range 40 {
		w.members[pick(t, s, 0, 0)].Begin()
	}
	for i, want := range []int64{10, 10, 20} {
		if got := w.members[i].Active(); got != want {
			t.Errorf("target %d has %d requests, want %d", i, got, want)
		}
	}
	for range 5 {
		w.members[1].End()
	}
	for range 4 {
		if i := pick(t, s, 0, 0); i != 1 {
			t.Errorf("picked %d, want the one that is less busy", i)
		}
	}
	many := newWorld(make([]int, 500)...)
	for i := range many.members {
		many.members[i].Weight = 1
	}
	s = many.set(runtime.Balancer{Algorithm: runtime.LeastConnections})
	for range 5000 {
		many.members[pick(t, s, 0, 0)].Begin()
	}
	for i, m := range many.members {
		if n := m.Active(); n < 5 || n > 15 {
			t.Errorf("of many targets, %d has %d requests, want about 10", i, n)
		}
	}
}

func TestPeakEWMAPrefersTheFaster(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 1, 1)
	s := w.set(runtime.Balancer{Algorithm: runtime.PeakEWMA})
	if !s.Measures() {
		t.Error("nothing is measured")
	}
	for i, m := range w.members {
		m.Took(time.Duration(1+9*i)*time.Millisecond, second)
	}
	got := shares(t, s, 0, 3, 3000)
	if got[0] < 1800 || got[2] > 100 {
		t.Errorf("picked %v times, want the fastest most, the slowest least", got)
	}
	w.members[0].Took(time.Second, 2*second) // a peak counts at once
	if got = shares(t, s, 0, 3, 3000); got[0] > 100 {
		t.Errorf("after a peak picked %v times", got)
	}
	for i := range 600 { // and is forgotten in time
		w.members[0].Took(time.Millisecond, 2*second+int64(i)*second/10)
	}
	if got = shares(t, s, 0, 3, 3000); got[0] < 1800 {
		t.Errorf("long after a peak picked %v times", got)
	}
	for range 20 {
		w.members[0].Begin()
	}
	if got = shares(t, s, 0, 3, 3000); got[0] > 1000 {
		t.Errorf("under load picked %v times", got)
	}
}

func TestConsistentHash(t *testing.T) {
	t.Parallel()
	const keys = 20_000
	owners := func(s *balance.Set, now int64) []int {
		out := make([]int, keys)
		for i := range out {
			out[i] = pick(t, s, now, balance.Hash(fmt.Append(nil, "user-", i)))
		}
		return out
	}
	config := runtime.Balancer{Algorithm: runtime.ConsistentHash}
	w := newWorld(100, 100, 100, 200, 0)
	s := w.set(config)
	before := owners(s, 0)
	count := make([]int, 5)
	for _, i := range before {
		count[i]++
	}
	for i, want := range []float64{0.2, 0.2, 0.2, 0.4, 0} {
		if got := float64(count[i]) / keys; !near(got, want, want/5) {
			t.Errorf("target %d owns %.3f of the keys, want about %.1f", i, got, want)
		}
	}
	// Another gateway, whose targets are listed in another order, sees it the same way.
	other := newWorld()
	for _, m := range slices.Backward(w.members) {
		other.members = append(other.members, balance.Member{Target: other.group.Join(m.Address(), true, 0), Weight: m.Weight})
	}
	for i, owner := range owners(other.set(config), 0) {
		if want := len(w.members) - 1 - before[i]; owner != want {
			t.Fatalf("key %d belongs to %d there", i, owner)
		}
	}
	// Only the keys of a target that is down move, to all others, and come back.
	w.members[1].SetWell(false, 0)
	gets := map[int]int{}
	for i, owner := range owners(s, 0) {
		if before[i] != 1 && owner != before[i] || owner == 1 {
			t.Fatalf("key %d moved from %d to %d", i, before[i], owner)
		}
		if before[i] == 1 {
			gets[owner]++
		}
	}
	if len(gets) != 3 {
		t.Errorf("the keys went to %v", gets)
	}
	w.members[1].SetWell(true, 0)
	for i, owner := range owners(s, 0) {
		if owner != before[i] {
			t.Fatalf("key %d did not come back", i)
		}
	}
	// A target that joins takes its share from all, and moves nothing else.
	w.members = append(w.members, balance.Member{Target: w.group.Join("10.0.0.9:80", false, 0), Weight: 100})
	moved := 0
	for i, owner := range owners(w.set(config), 0) {
		if owner != before[i] {
			if moved++; owner != 5 {
				t.Fatalf("key %d moved from %d to %d", i, before[i], owner)
			}
		}
	}
	if got := float64(moved) / keys; !near(got, 1.0/6, 0.05) {
		t.Errorf("%.3f of the keys moved, want about a sixth", got)
	}
}

func algorithms() []runtime.Algorithm {
	return []runtime.Algorithm{runtime.RoundRobin, runtime.LeastConnections, runtime.PeakEWMA, runtime.ConsistentHash}
}

// What was tried is not tried again while there is something else.
func TestTriedTargetsComeLast(t *testing.T) {
	t.Parallel()
	for _, a := range algorithms() {
		w := newWorld(1, 1, 1, 1)
		s := w.set(runtime.Balancer{Algorithm: a})
		for round := range 50 {
			var tried balance.Tried
			seen := map[int]bool{}
			for range 4 {
				i, ok := s.Pick(0, balance.Hash(fmt.Append(nil, round)), &tried)
				if !ok || seen[i] {
					t.Fatalf("algorithm %d: picked %d again after %v", a, i, seen)
				}
				seen[i] = true
				tried.Add(i)
			}
			if _, ok := s.Pick(0, 1, &tried); !ok {
				t.Errorf("algorithm %d: nothing is left to try", a)
			}
		}
	}
}

func TestOnlyTargetsThatAreUpAreUsed(t *testing.T) {
	t.Parallel()
	for _, a := range algorithms() {
		w := newWorld(1, 1, 1, 0)
		s := w.set(runtime.Balancer{Algorithm: a})
		w.members[0].SetWell(false, 0)
		if got := shares(t, s, 0, 4, 300); got[0] > 0 || got[1] == 0 || got[2] == 0 || got[3] > 0 {
			t.Errorf("algorithm %d: picked %v times", a, got)
		}
		w.members[1].SetWell(false, 0)
		w.members[2].SetWell(false, 0)
		got := shares(t, s, 0, 4, 300) // all are down: all are used, but the one without weight
		if !s.Panicking(0) || got[0] == 0 || got[1] == 0 || got[2] == 0 || got[3] > 0 {
			t.Errorf("algorithm %d: picked %v times when all are down", a, got)
		}
		w.members[2].SetWell(true, 0)
		if got := shares(t, s, 0, 4, 300); s.Panicking(0) || got[2] != 300 {
			t.Errorf("algorithm %d: picked %v times when one is up", a, got)
		}
	}
	if _, ok := newWorld(0, 0).set(runtime.Balancer{}).Pick(0, 0, &balance.Tried{}); ok {
		t.Error("picked a target without weight")
	}
	if _, ok := newWorld().set(runtime.Balancer{Algorithm: runtime.ConsistentHash}).Pick(0, 0, &balance.Tried{}); ok {
		t.Error("picked a target of none")
	}
}

func TestEjection(t *testing.T) {
	t.Parallel()
	p := &runtime.PassiveHealth{Failures: 3, Ejection: 10 * time.Second, MaxEjected: 50}
	w := newWorld(1, 1, 1, 1)
	s := w.set(runtime.Balancer{})
	fail := func(i int, now int64, want time.Duration) {
		t.Helper()
		for range p.Failures - 1 {
			if d := s.Failed(i, now, p); d != 0 {
				t.Errorf("ejected for %s after too few failures", d)
			}
		}
		if d := s.Failed(i, now, p); d != want {
			t.Errorf("ejected for %s, want %s", d, want)
		}
	}
	s.Failed(0, 0, p)
	s.Failed(0, 0, p)
	w.members[0].Succeeded() // not in a row
	fail(0, 0, 10*time.Second)
	if got := shares(t, s, 9*second, 4, 300); got[0] != 0 {
		t.Errorf("ejected, but picked %v times", got)
	}
	if got := shares(t, s, 11*second, 4, 400); got[0] != 100 {
		t.Errorf("back, but picked %v times", got)
	}
	fail(0, 11*second, 20*time.Second) // longer each time
	fail(1, 11*second, 10*time.Second)
	fail(2, 11*second, 0) // half of them are out already
	if s.Panicking(12 * second) {
		t.Error("two are up")
	}
	fail(2, 22*second, 10*time.Second) // the second has come back
	fail(0, 200*second, 10*time.Second)
	now := 1000 * second
	for k := range time.Duration(15) {
		d := min(k+1, 10) * 10 * time.Second
		fail(0, now, d)
		now += int64(d) + second
	}
	fail(0, now+45*second, 70*time.Second) // every time that passed well forgives one
}

// A target that joins or comes back gets its share little by little.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	const slow = 20 * time.Second
	for _, a := range []runtime.Algorithm{runtime.RoundRobin} {
		w := newWorld(100, 100)
		w.members = append(w.members, balance.Member{Target: w.group.Join("10.0.0.9:80", false, 100*second), Weight: 100})
		s := w.set(runtime.Balancer{Algorithm: a, SlowStart: slow})
		share := func(now int64, i int) float64 {
			s.Pick(now, 0, &balance.Tried{})
			return float64(shares(t, s, now, 3, 6000)[i]) / 6000
		}
		for _, tt := range []struct {
			now  int64
			want float64
		}{{101, 0.1 / 2.1}, {105, 0.25 / 2.25}, {110, 0.5 / 2.5}, {120, 1.0 / 3}, {500, 1.0 / 3}} {
			if got := share(tt.now*second, 2); !near(got, tt.want, 0.03) {
				t.Errorf("%d s: share %.3f, want %.3f", tt.now, got, tt.want)
			}
		}
		w.members[0].SetWell(false, 600*second)
		w.members[0].SetWell(true, 700*second)
		if got := share(705*second, 0); !near(got, 0.25/2.25, 0.03) {
			t.Errorf("after recovery: share %.3f", got)
		}
		s.Failed(1, 800*second, &runtime.PassiveHealth{Failures: 1, Ejection: 10 * time.Second, MaxEjected: 100})
		if got := share(815*second, 1); !near(got, 0.25/2.25, 0.03) {
			t.Errorf("after ejection: share %.3f", got)
		}
	}
}

func TestTargetsKeepTheirHealthInAnotherSet(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 1)
	w.members[0].SetWell(false, 0)
	again := w.group.Join(w.members[0].Address(), false, 0)
	if again != w.members[0].Target || again.Up(0) {
		t.Error("it is another target, or healthy")
	}
	w.group.Leave(again.Address())
	if w.group.Join(again.Address(), false, 0) == again {
		t.Error("it was not forgotten")
	}
}

func TestChoosingAndChangingAtOnce(t *testing.T) {
	t.Parallel()
	for _, a := range algorithms() {
		w := newWorld(1, 2, 3)
		s := w.set(runtime.Balancer{Algorithm: a, SlowStart: time.Second})
		p := &runtime.PassiveHealth{Failures: 1, Ejection: time.Millisecond, MaxEjected: 100}
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for k := range int64(2000) {
					i, ok := s.Pick(k*1000, uint64(k), &balance.Tried{})
					if !ok {
						t.Error("no target")
						return
					}
					m := w.members[i]
					m.Begin()
					m.Took(time.Duration(k), k*1000)
					if k%7 == 0 {
						s.Failed(i, k*1000, p)
					} else {
						m.Succeeded()
					}
					m.SetWell(int(k)%5 != worker, k*1000)
					m.End()
				}
			})
		}
		wg.Wait()
		for _, m := range w.members {
			if m.Active() != 0 {
				t.Errorf("%d requests are left", m.Active())
			}
		}
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, a := range algorithms() {
		s := newWorld(1, 2, 3).set(runtime.Balancer{Algorithm: a})
		var tried balance.Tried
		if n := testing.AllocsPerRun(1000, func() { s.Pick(0, 12345, &tried) }); n > 0 {
			t.Errorf("algorithm %d allocates %v times", a, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, a := range algorithms() {
		b.Run(fmt.Sprint("algorithm ", a), func(b *testing.B) {
			s := newWorld(1, 2, 3, 4, 5).set(runtime.Balancer{Algorithm: a})
			var tried balance.Tried
			b.ReportAllocs()
			for b.Loop() {
				s.Pick(0, 12345, &tried)
			}
		})
	}
}
