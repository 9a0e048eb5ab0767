package hostsvc_test

import (
	"math/big"
	mathrand "math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func take(l *hostsvc.Limiter, subject string, at time.Time) hostsvc.Decision {
	var d hostsvc.Decision
	l.Take([]byte(subject), at, &d)
	return d
}

// bucket is the naive model: tokens as exact fractions, refilled evenly.
type bucket struct {
	limit  int64
	window time.Duration
	tokens *big.Rat
	at     time.Time
}

func (b *bucket) refill(now time.Time) {
	if now.After(b.at) {
		gained := new(big.Rat).SetFrac64(int64(now.Sub(b.at))*b.limit, int64(b.window))
		b.tokens.Add(b.tokens, gained)
		b.at = now
	}
	if full := new(big.Rat).SetInt64(b.limit); b.tokens.Cmp(full) > 0 {
		b.tokens.Set(full)
	}
}

func TestLimiterEqualsANaiveModel(t *testing.T) {
	t.Parallel()
	one := big.NewRat(1, 1)
	rng := mathrand.New(mathrand.NewPCG(3, 4))
	for range 60 {
		table := hostsvc.NewLimiterTable(0)
		var windows []hostsvc.Window
		var model []*bucket
		for range 1 + rng.IntN(3) {
			w := hostsvc.Window{Limit: 1 + rng.Uint64N(7), Length: time.Duration(1+rng.IntN(30)) * time.Second}
			// whole steps, so that rounding cannot tell the two apart
			w.Length = w.Length / time.Duration(w.Limit) * time.Duration(w.Limit)
			windows = append(windows, w)
			model = append(model, &bucket{int64(w.Limit), w.Length, new(big.Rat).SetInt64(int64(w.Limit)), start})
		}
		l := table.Bind([]string{"b"}, windows)
		now := start
		for range 200 {
			now = now.Add(time.Duration(rng.Int64N(int64(3 * time.Second))))
			want := true
			for _, b := range model {
				b.refill(now)
				want = want && b.tokens.Cmp(one) >= 0
			}
			d := take(l, "s", now)
			if d.OK != want {
				t.Fatalf("Take() at %v with %v = %v, want %v", now.Sub(start), windows, d.OK, want)
			}
			for i, b := range model {
				if want {
					b.tokens.Sub(b.tokens, one)
				}
				left := new(big.Int).Quo(b.tokens.Num(), b.tokens.Denom()).Uint64()
				if d.Quotas[i].Remaining != left {
					t.Fatalf("Remaining = %d, want %d", d.Quotas[i].Remaining, left)
				}
			}
		}
	}
}

// TestNeverMoreThanTheLimitAndWhatWasRegained asks with windows whose steps are no whole nanoseconds, in bursts and at
// random, that n requests pass only if limit + elapsed × limit / window ≥ n, exactly; and that the limit passes at once.
func TestNeverMoreThanTheLimitAndWhatWasRegained(t *testing.T) {
	t.Parallel()
	rng := mathrand.New(mathrand.NewPCG(9, 10))
	for _, w := range []hostsvc.Window{
		{Limit: 7, Length: time.Second},
		{Limit: 3, Length: 10 * time.Second},
		{Limit: 1000, Length: 7 * time.Second},
		{Limit: 1, Length: time.Second},
		{Limit: 999_999, Length: time.Second},
		{Limit: 600_000_000, Length: time.Second},
	} {
		l := hostsvc.NewLimiterTable(0).Bind(nil, []hostsvc.Window{w})
		passed, now := int64(0), start
		for range min(w.Limit, 2000) {
			if !take(l, "s", now).OK {
				t.Fatalf("%+v: refused within the limit after %d", w, passed)
			}
			passed++
		}
		for range 5000 {
			now = now.Add(time.Duration(rng.Int64N(int64(w.Length)/int64(w.Limit)*3 + 2)))
			if take(l, "s", now).OK {
				passed++
			}
			allowed := new(big.Rat).SetFrac64(int64(now.Sub(start)), int64(w.Length))
			allowed.Mul(allowed, big.NewRat(int64(w.Limit), 1)).Add(allowed, big.NewRat(int64(w.Limit), 1))
			if new(big.Rat).SetInt64(passed).Cmp(allowed) > 0 {
				t.Fatalf("%+v: %d passed within %v", w, passed, now.Sub(start))
			}
		}
	}
}

func TestRetryAfterIsExact(t *testing.T) {
	t.Parallel()
	l := hostsvc.NewLimiterTable(0).Bind(nil, []hostsvc.Window{{Limit: 3, Length: 10 * time.Second}, {Limit: 5, Length: time.Minute}})
	now := start
	for range 40 {
		d := take(l, "s", now)
		if d.OK {
			if d.RetryAfter != 0 {
				t.Fatalf("RetryAfter = %v with OK", d.RetryAfter)
			}
			continue
		}
		if early := take(l, "s", now.Add(d.RetryAfter-1)); early.OK {
			t.Fatalf("passed %v early", time.Nanosecond)
		}
		now = now.Add(d.RetryAfter)
		if onTime := take(l, "s", now); !onTime.OK {
			t.Fatalf("refused after RetryAfter %v", d.RetryAfter)
		}
	}
}

func TestARefusedRequestCountsInNoWindow(t *testing.T) {
	t.Parallel()
	l := hostsvc.NewLimiterTable(0).Bind(nil, []hostsvc.Window{{Limit: 1, Length: time.Second}, {Limit: 10, Length: time.Hour}})
	take(l, "s", start)
	for range 20 {
		if d := take(l, "s", start); d.OK || d.Quotas[1].Remaining != 9 {
			t.Fatalf("Take() = %+v, want a refusal that leaves 9 in the wide window", d)
		}
	}
}

func TestCountersSurviveAPushThatKeepsTheWindows(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewLimiterTable(0)
	w := []hostsvc.Window{{Limit: 1, Length: time.Minute}}
	id := []string{"routes", "uid", "rate-limit", "a"}
	take(table.Bind(id, w), "s", start)
	if d := take(table.Bind(id, w), "s", start); d.OK {
		t.Error("a handle made later does not meet the counter")
	}
	others := map[string]*hostsvc.Limiter{
		"other windows":  table.Bind(id, []hostsvc.Window{{Limit: 2, Length: time.Minute}}),
		"other owner":    table.Bind([]string{"routes", "uid2", "rate-limit", "a"}, w),
		"other boundary": table.Bind([]string{"route", "suid", "rate-limit", "a"}, w),
	}
	for name, l := range others {
		if d := take(l, "s", start); !d.OK {
			t.Errorf("%s: shares the counter", name)
		}
	}
}

func TestTableIsBoundedAndForgetsIdleSubjectsFirst(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewLimiterTable(640)
	l := table.Bind(nil, []hostsvc.Window{{Limit: 10, Length: 10 * time.Second}})
	hot := 0
	for i := range 20_000 {
		now := start.Add(time.Duration(i) * time.Millisecond)
		if take(l, "hot", now).OK {
			hot++
		}
		take(l, "flood-"+strconv.Itoa(i), now)
	}
	if n := table.Len(); n > 640 {
		t.Errorf("Len() = %d, want at most 640", n)
	}
	// 10 at once and one a second regained over 20 s
	if hot > 30 {
		t.Errorf("a limited subject got %d requests through under a flood of others, want at most 30", hot)
	}
}

func TestConcurrentTakesNeverExceedTheLimit(t *testing.T) {
	t.Parallel()
	const limit, workers = 500, 8
	table := hostsvc.NewLimiterTable(0)
	l := table.Bind(nil, []hostsvc.Window{{Limit: limit, Length: 500 * time.Second}})
	var passed atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range 1000 {
				// clocks of different exchanges interleave; together they regain 10 requests
				if d := take(l, "s", start.Add(time.Duration(i*10+w)*time.Millisecond)); d.OK {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n > limit+10 || n < limit {
		t.Errorf("%d requests passed, want between %d and %d", n, limit, limit+10)
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	l := hostsvc.NewLimiterTable(0).Bind(nil, []hostsvc.Window{{Limit: 10, Length: time.Second}, {Limit: 100, Length: time.Minute}})
	subject, now := []byte("s"), start
	var d hostsvc.Decision
	if n := testing.AllocsPerRun(500, func() {
		now = now.Add(time.Millisecond)
		l.Take(subject, now, &d)
	}); n != 0 {
		t.Errorf("Take() allocates %v times", n)
	}
}

func BenchmarkTake(b *testing.B) {
	l := hostsvc.NewLimiterTable(0).Bind(nil, []hostsvc.Window{{Limit: 1000, Length: time.Second}})
	subjects := make([][]byte, 100_000)
	for i := range subjects {
		subjects[i] = []byte("consumer-" + strconv.Itoa(i))
	}
	now := start
	var d hostsvc.Decision
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		now = now.Add(time.Microsecond)
		l.Take(subjects[i%len(subjects)], now, &d)
		i++
	}
}
