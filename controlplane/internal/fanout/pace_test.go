package fanout_test

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/fanout/fanouttest"
)

// delays makes so many changes, as far apart as that, to a group that one stream follows, and answers how long each took.
func delays(t *testing.T, src *fanouttest.Source, r *receiver, s *fanout.Stream, n int, apart time.Duration) []time.Duration {
	t.Helper()
	from := r.at.Revision
	made := make([]time.Time, n)
	go func() {
		for i := range n {
			made[i] = time.Now()
			src.Put("u", "n", fmt.Append(nil, from, i))
			<-time.After(apart)
		}
	}()
	var took []time.Duration
	for r.at.Revision < from+int64(n) {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.fold(t, b)
		took = append(took, time.Since(made[len(took)]))
	}
	return took
}

// TestLongBurstsGoOutTogether: changes now and then go out at once, however many; of a long burst ten times a second what
// has come since, in its order.
func TestLongBurstsGoOutTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		g := start(t, src, fanout.Limits{})
		r := &receiver{}
		s := join(t, g, r.at)
		src.Put("u", "n", []byte("first"))
		follow(t, s, r, 1)
		<-time.After(time.Minute)
		for i, d := range delays(t, src, r, s, 100, 100*time.Millisecond) {
			if d != 0 {
				t.Errorf("change %d of many that are not fast waited for %v", i, d)
			}
		}
		<-time.After(time.Minute)
		at := map[time.Duration]int{}
		for i, d := range delays(t, src, r, s, 200, 20*time.Millisecond) {
			if d > 100*time.Millisecond || i < 20 && d != 0 {
				t.Errorf("change %d of a burst waited for %v", i, d)
			}
			at[time.Duration(i)*20*time.Millisecond+d]++
		}
		// 20 at once and those that had their turn during them, then ten a second.
		if n := len(at); n < 55 || n > 65 {
			t.Errorf("a burst of 4 s went out in %d parts, want about 60", n)
		}
		if r.resets > 1 {
			t.Errorf("%d whole sets were sent", r.resets-1)
		}
	})
}

// TestWhatIsHeldIsNotLost: whoever joins while a change is held has it, or gets it with the others.
func TestWhatIsHeldIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		g := start(t, src, fanout.Limits{})
		var all []*receiver
		for i := range 40 {
			synctest.Wait()
			at := fanout.Position{}
			if i%2 == 0 && len(all) > 0 {
				at = all[0].at
			}
			r := &receiver{at: at}
			if at.Revision > 0 {
				r.records = maps.Clone(all[0].records)
			}
			s := join(t, g, at)
			all = append(all, r)
			go func() {
				for {
					b, err := s.Next(t.Context())
					if err != nil {
						return
					}
					r.fold(t, b)
				}
			}()
			src.Put("u", "n", fmt.Append(nil, i))
			if i == 30 {
				synctest.Wait()
				src.Rewind(2, 10) // a new window while one is held
			}
		}
		<-time.After(time.Second)
		synctest.Wait()
		for i, r := range all {
			if r.at != src.Position() {
				t.Errorf("stream %d is at %d of epoch %d, want %+v", i, r.at.Revision, r.at.Epoch, src.Position())
			}
		}
	})
}
