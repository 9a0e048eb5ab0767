package fleet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// move is a gateway that applies a revision, a millisecond after the move before.
type move struct {
	gateway  int
	epoch    uint64
	revision int64
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		moves []move
		// want are the revisions that were reached, with the moves that were the first and the last to get there.
		want [][3]int64
		// there, configured and lowest are where the fleet is in the end.
		there, configured int
		lowest            int64
	}{
		{"nobody", nil, nil, 0, 0, 0},
		{"one after the other", []move{{0, 1, 5}, {1, 1, 5}, {1, 1, 6}, {0, 1, 6}}, [][3]int64{{5, 0, 1}, {6, 2, 3}}, 2, 2, 6},
		{"one is missing", []move{{0, 1, 5}}, nil, 1, 1, 5},
		{"one leaves revisions out", []move{{0, 1, 5}, {1, 1, 5}, {0, 1, 6}, {0, 1, 7}, {1, 1, 8}, {0, 1, 8}}, [][3]int64{{5, 0, 1}, {8, 4, 5}}, 2, 2, 8},
		{"one is late", []move{{0, 1, 5}, {1, 1, 5}, {0, 1, 6}, {0, 1, 7}, {1, 1, 6}, {1, 1, 7}}, [][3]int64{{5, 0, 1}, {6, 2, 4}, {7, 3, 5}}, 2, 2, 7},
		{"they begin at different revisions", []move{{0, 1, 5}, {1, 1, 6}, {0, 1, 6}}, [][3]int64{{6, 1, 2}}, 2, 2, 6},
		{"one gets the same again", []move{{0, 1, 5}, {0, 1, 5}}, nil, 1, 1, 5},
		{"another epoch", []move{{0, 1, 5}, {1, 1, 5}, {0, 2, 3}, {1, 1, 6}, {1, 2, 3}}, [][3]int64{{5, 0, 1}, {3, 2, 4}}, 2, 2, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			began := time.Unix(1000, 0)
			p := newProgress(2)
			var got [][3]int64
			for i, m := range test.moves {
				now := began.Add(time.Duration(i) * time.Millisecond)
				if r, all := p.applied(m.gateway, position{m.epoch, m.revision}, began, now); all {
					got = append(got, [3]int64{r.Revision, r.First.Sub(began).Milliseconds(), r.Last.Sub(began).Milliseconds()})
					if want := r.Last.Sub(began).Seconds(); r.Seconds != want || r.Gateways != 2 {
						t.Errorf("%+v took %v, want %v", r, r.Seconds, want)
					}
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("reached (-want +got):\n%s", diff)
			}
			if s := p.standing(); s.there != test.there || s.configured != test.configured || s.lowest != test.lowest {
				t.Errorf("standing %+v, want %d there, %d configured, %d lowest", s, test.there, test.configured, test.lowest)
			}
		})
	}
}

func TestProgressIsBounded(t *testing.T) {
	t.Parallel()
	p := newProgress(2)
	for r := range int64(3 * maxSteps) {
		p.applied(0, position{1, r + 1}, time.Time{}, time.Unix(r, 0))
	}
	if len(p.steps) > maxSteps {
		t.Errorf("%d revisions are remembered, more than %d", len(p.steps), maxSteps)
	}
	r, all := p.applied(1, position{1, 3 * maxSteps}, time.Time{}, time.Unix(3*maxSteps, 0))
	if !all || r.CommittedAt != nil || r.Revision != 3*maxSteps {
		t.Errorf("the last revision: %+v, %v", r, all)
	}
	if one, last := p.times(); one.count != 0 || last.count != 0 || len(p.steps) != 0 {
		t.Errorf("revisions without a time were timed %d and %d times; %d steps are left", one.count, last.count, len(p.steps))
	}
}
