package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/fanout/fanouttest"
)

// member joins as the one of that id.
func member(t *testing.T, g *fanout.Group, id string, at fanout.Position) *fanout.Stream {
	t.Helper()
	s, err := g.Join(t.Context(), fanout.Member{ID: id}, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// quiet fails if there is anything for the stream within a minute.
func quiet(t *testing.T, s *fanout.Stream, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if b, err := s.Next(ctx); err == nil {
		t.Errorf("%s: got revision %d, want nothing", what, b.To.Revision)
	}
}

func upTo(canary, others int64) func(fanout.Member) int64 {
	return func(m fanout.Member) int64 {
		if m.ID == "canary" {
			return canary
		}
		return others
	}
}

func retarget(t *testing.T, g *fanout.Group) {
	t.Helper()
	if err := g.Retarget(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAStagedGroupGoesOnlyAsFarAsItsTargets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		src.Put("u", "n", []byte("1"))
		g := start(t, src, fanout.Limits{})
		canary, other := &receiver{}, &receiver{}
		c, o := member(t, g, "canary", canary.at), member(t, g, "other", other.at)
		follow(t, c, canary, 1)
		follow(t, o, other, 1)

		src.Stage(true)
		src.Put("u", "n", []byte("2"))
		quiet(t, c, "a staged change before its targets are known")
		src.SetTargets(upTo(2, 1))
		retarget(t, g)
		follow(t, c, canary, 2)
		quiet(t, o, "a later stage")
		src.SetTargets(upTo(3, 1))
		src.Put("u", "n", []byte("3")) // a change asks for the targets by itself
		follow(t, c, canary, 3)
		quiet(t, o, "a later stage")
		src.SetTargets(upTo(2, 2))
		retarget(t, g)
		follow(t, o, other, 2)
		quiet(t, c, "one that has more than its target")
		src.Stage(false)
		src.Put("u", "n", []byte("4"))
		follow(t, c, canary, 4)
		follow(t, o, other, 4)
		if canary.resets != 1 || other.resets != 1 {
			t.Errorf("%d and %d snapshots were sent, want only the first", canary.resets, other.resets)
		}
	})
}

func TestWhoJoinsAStagedGroupGetsTheSetOfItsTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		src.Stage(true)
		src.SetTargets(upTo(9, 4))
		var positions []fanout.Position
		for i := range 9 {
			src.Put("u", "n", fmt.Append(nil, i+1))
			positions = append(positions, src.Position())
		}
		for _, limits := range []fanout.Limits{{}, {Changes: 2}} { // the second forgets the changes after the target
			g := start(t, src, limits)
			cases := []struct {
				name, id string
				at       fanout.Position
				want     int64
			}{
				{"a new one", "other", fanout.Position{}, 4},
				{"a new one in the first stage", "canary", fanout.Position{}, 9},
				{"one from before", "other", positions[1], 4},
				{"one that has more than its target", "other", positions[6], 7},
				{"one at its target", "other", positions[3], 4},
				{"one of another history", "other", fanout.Position{Epoch: 7, Revision: 8}, 4},
			}
			for _, c := range cases {
				r := &receiver{at: c.at, records: map[string][]byte{}}
				s := member(t, g, c.id, c.at)
				for {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					b, err := s.Next(ctx)
					cancel()
					if err != nil {
						break
					}
					if b.To.Revision > c.want {
						t.Fatalf("%s: revision %d, want at most %d", c.name, b.To.Revision, c.want)
					}
					r.fold(t, b)
				}
				if r.at.Revision != c.want || r.at.Epoch != 1 {
					t.Errorf("%s ends at %+v, want revision %d", c.name, r.at, c.want)
				}
				if c.want == 4 { // and goes on from there
					src.SetTargets(upTo(9, 9))
					retarget(t, g)
					follow(t, s, r, 9)
					src.SetTargets(upTo(9, 4))
					retarget(t, g)
				}
			}
		}
	})
}

func TestASetThatCannotBeReadHoldsOnlyWhoNeedsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		src.Stage(true)
		src.SetTargets(upTo(2, 1))
		src.Put("u", "n", []byte("1"))
		g := start(t, src, fanout.Limits{})
		r := &receiver{}
		s := member(t, g, "other", r.at)
		follow(t, s, r, 1)
		quiet(t, s, "one that has everything") // and gives up its share of the snapshot
		src.Put("u", "n", []byte("2"))
		quiet(t, s, "a later stage")
		src.Fail(errors.New("history is refused"))
		late := member(t, g, "other", fanout.Position{})
		if b, err := late.Next(t.Context()); err == nil {
			t.Errorf("with a history that is refused: revision %d", b.To.Revision)
		}
		src.Put("u", "n", []byte("3"))
		src.SetTargets(upTo(3, 3))
		retarget(t, g)
		follow(t, s, r, 3)
	})
}

// The revision that an epoch begins with was made in the epoch before.
func TestWhoJoinsAtTheBeginningOfAnEpochIsInIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		src.Stage(true)
		for i := range 3 {
			src.Put("u", "n", fmt.Append(nil, i+1))
		}
		src.Rewind(2, 2)
		src.Put("u", "n", []byte("later"))
		src.SetTargets(upTo(3, 2))
		g := start(t, src, fanout.Limits{})
		other := &receiver{}
		s := member(t, g, "other", other.at)
		follow(t, s, other, 2)
		if other.at.Epoch != 2 {
			t.Errorf("the set at the target is of epoch %d, want 2", other.at.Epoch)
		}
		src.SetTargets(upTo(3, 3))
		retarget(t, g)
		follow(t, s, other, 3)
	})
}
