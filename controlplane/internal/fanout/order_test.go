package fanout_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/fanout/fanouttest"
)

// arrivals lets so many streams wait for revision 2, after what is to be done before, and answers when each of them had it.
func arrivals(t *testing.T, streams int, src *fanouttest.Source, g *fanout.Group, before func()) map[string]time.Duration {
	t.Helper()
	var mu sync.Mutex
	var done sync.WaitGroup
	took := map[string]time.Duration{}
	var began time.Time
	for i := range streams {
		id, r := fmt.Sprint(i), &receiver{}
		s := member(t, g, id, r.at)
		follow(t, s, r, 1)
		done.Go(func() {
			for r.at.Revision < 2 {
				b, err := s.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				r.at = b.To
			}
			mu.Lock()
			defer mu.Unlock()
			took[id] = time.Since(began)
		})
	}
	before()
	synctest.Wait()
	began = time.Now()
	src.Put("u", "n", []byte("2"))
	done.Wait()
	return took
}

// TestThoseWithTheTrafficGetAChangeFirst: others get it a moment later, all of them and however few there are.
func TestThoseWithTheTrafficGetAChangeFirst(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		streams int
		first   []string
		ahead   map[string]bool
	}{
		"a crowd with two that are busy":        {200, []string{"7", "150"}, map[string]bool{"7": true, "150": true}},
		"a crowd in which nobody is busy":       {200, nil, nil},
		"a crowd whose busy ones are elsewhere": {200, []string{"of another replica"}, nil},
		"few":                                   {20, []string{"7"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := fanouttest.NewSource(1)
				src.Put("u", "n", []byte("1"))
				g := start(t, src, fanout.Limits{})
				took := arrivals(t, tt.streams, src, g, func() { g.First(tt.first) })
				if len(took) != tt.streams {
					t.Errorf("%d streams got the change, want %d", len(took), tt.streams)
				}
				for id, after := range took {
					want := time.Duration(0)
					if len(tt.first) > 0 && tt.streams >= 64 && !tt.ahead[id] {
						want = 3 * time.Millisecond
					}
					if after != want {
						t.Errorf("stream %s got the change after %v, want %v", id, after, want)
					}
				}
			})
		})
	}
}

// TestChangesInsideTheLeadGoTogether: the one that was first does not wait for the others, and they get both.
func TestChangesInsideTheLeadGoTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		src.Put("u", "n", []byte("1"))
		g := start(t, src, fanout.Limits{})
		var last sync.Map
		for i := range 100 {
			id, r := fmt.Sprint(i), &receiver{}
			s := member(t, g, id, r.at)
			follow(t, s, r, 1)
			go func() {
				for {
					b, err := s.Next(t.Context())
					if err != nil {
						return
					}
					last.Store(id, b.To.Revision)
				}
			}()
		}
		at := func(id string) int64 {
			synctest.Wait()
			n, _ := last.Load(id)
			revision, _ := n.(int64)
			return revision
		}
		g.First([]string{"3"})
		synctest.Wait()
		src.Put("u", "n", []byte("2"))
		if at("3") != 2 || at("4") != 0 {
			t.Errorf("at %d and %d, want 2 and nothing yet", at("3"), at("4"))
		}
		<-time.After(2 * time.Millisecond)
		src.Put("u", "n", []byte("3"))
		if at("3") != 3 || at("4") != 0 {
			t.Errorf("at %d and %d, want 3 and nothing yet", at("3"), at("4"))
		}
		<-time.After(2 * time.Millisecond)
		if at("4") != 3 {
			t.Errorf("at %d after the lead of the first change, want 3", at("4"))
		}
		g.First([]string{"4"}) // another one now
		synctest.Wait()
		src.Put("u", "n", []byte("4"))
		if at("3") != 3 || at("4") != 4 {
			t.Errorf("at %d and %d, want 3 still, and 4", at("3"), at("4"))
		}
		<-time.After(4 * time.Millisecond)
		for i := range 100 {
			if got := at(fmt.Sprint(i)); got != 4 {
				t.Errorf("stream %d is at %d at the end, want 4", i, got)
			}
		}
	})
}
