package fanout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/fanout/fanouttest"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

func TestStreamGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	src := fanouttest.NewSource(1)
	g := start(t, src, fanout.Limits{})
	r := &receiver{}
	first := join(t, g, r.at)
	src.Put("u1", "a", []byte("1"))
	src.PutUnreadable("u2", "b")
	follow(t, first, r, 2)
	src.Put("u3", "c", bytes.Repeat([]byte("x"), 700<<10))
	src.Remove("u1")
	again := join(t, g, r.at)
	before := r.resets
	follow(t, again, r, 4)
	if r.resets != before {
		t.Error("a stream that was in the window got a snapshot")
	}
	if got := slices.Sorted(maps.Keys(r.records)); !slices.Equal(got, []string{"routes/u2", "routes/u3"}) {
		t.Errorf("records = %v", got)
	}
	wrong := r.at
	wrong.Digest[0] ^= 1
	other := &receiver{at: wrong}
	follow2 := join(t, g, other.at)
	b, err := follow2.Next(t.Context())
	if err != nil || !b.Reset {
		t.Errorf("a stream with another digest: reset %v, %v", b.Reset, err)
	}
}

// historian is a source that remembers, as the database does.
type historian struct {
	*fanouttest.Source
	changes []fanout.Change
}

func (h historian) History(_ context.Context, _ string, _ uint64, upTo int64, limit int) ([]fanout.Change, error) {
	return h.changes[max(0, upTo-int64(limit)):upTo], nil
}

func TestStreamsFindTheirPlaceAfterARestart(t *testing.T) {
	t.Parallel()
	src := fanouttest.NewSource(1)
	_, cursor, err := src.Subscribe(t.Context(), "pay")
	if err != nil {
		t.Fatal(err)
	}
	before := start(t, src, fanout.Limits{})
	r := &receiver{}
	s := join(t, before, r.at)
	h := historian{Source: src}
	for i := range 10 {
		src.Put(fmt.Sprint("u", i%3), fmt.Sprint("n", i%3), []byte{byte(i)})
		c, err := cursor.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.changes = append(h.changes, c)
		if i == 4 {
			follow(t, s, r, 5)
		}
	}
	for name, tt := range map[string]struct {
		changes []fanout.Change
		resets  int
	}{
		"history":       {h.changes, 0},
		"with a hole":   {append(h.changes[:6:6], append([]fanout.Change{h.changes[8]}, h.changes[7:]...)...), 1},
		"of other sets": {append(h.changes[:9:9], fanout.Change{Epoch: 1, Revision: 10}), 1},
	} {
		after := start(t, historian{src, tt.changes}, fanout.Limits{})
		again := &receiver{at: r.at, records: maps.Clone(r.records)}
		follow(t, join(t, after, again.at), again, 10)
		if again.resets != tt.resets {
			t.Errorf("%s: %d resets, want %d", name, again.resets, tt.resets)
		}
	}
}

func TestSlowStreamGetsASnapshot(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]fanout.Limits{"by count": {Changes: 3}, "by bytes": {Bytes: 2000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := fanouttest.NewSource(1)
			g := start(t, src, limits)
			slow, fast := &receiver{}, &receiver{}
			s, f := join(t, g, slow.at), join(t, g, fast.at)
			src.Put("u0", "n", []byte("0"))
			follow(t, s, slow, 1)
			follow(t, f, fast, 1)
			for i := range 20 {
				src.Put("u0", "n", bytes.Repeat([]byte("x"), 100+i))
				follow(t, f, fast, int64(i+2))
			}
			was := slow.resets
			follow(t, s, slow, 21)
			if slow.resets != was+1 {
				t.Errorf("the slow stream got %d snapshots, want 1", slow.resets-was)
			}
			if fast.resets > 1 {
				t.Error("the fast stream was held up by the slow one")
			}
		})
	}
}

func TestJoinersShareOneSnapshot(t *testing.T) {
	t.Parallel()
	src := fanouttest.NewSource(1)
	for i := range 100 {
		src.Put(fmt.Sprintf("u%d", i), fmt.Sprintf("n%d", i), []byte("x"))
	}
	g := start(t, src, fanout.Limits{})
	var batches [50]*fanout.Batch
	var wg sync.WaitGroup
	for i := range batches {
		s := join(t, g, fanout.Position{})
		wg.Go(func() {
			b, err := s.Next(t.Context())
			if err != nil {
				t.Error(err)
			}
			batches[i] = b
		})
	}
	wg.Wait()
	for _, b := range batches {
		if b != batches[0] {
			t.Fatal("two snapshots were made")
		}
	}
	src.Put("new", "new", []byte("y"))
	late := &receiver{}
	follow(t, join(t, g, late.at), late, 101)
	if len(late.records) != 101 {
		t.Errorf("a joiner has %d records, want 101", len(late.records))
	}
	if got := src.Subscriptions(); got > 3 { // the group's own and one snapshot, with one to spare
		t.Errorf("the set was taken %d times", got)
	}
}

func TestNewEpochResetsEveryStream(t *testing.T) {
	t.Parallel()
	src := fanouttest.NewSource(1)
	g := start(t, src, fanout.Limits{})
	r := &receiver{}
	s := join(t, g, r.at)
	for i := range 5 {
		src.Put("u", "n", []byte{byte(i + 1)})
	}
	follow(t, s, r, 5)
	src.Rewind(2, 2)
	for r.at.Epoch != 2 {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.fold(t, b)
	}
	src.Put("u", "n", []byte("after"))
	follow(t, s, r, 3)
	if r.at.Revision != 3 || string(r.records["routes/u"]) != "after" {
		t.Errorf("after a rewind the stream is at %+v", r.at)
	}
}

func TestStreamAheadOfTheReplicaWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		src.Put("u", "n", []byte("1"))
		g := start(t, src, fanout.Limits{})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := g.Join(ctx, fanout.Member{}, fanout.Position{Epoch: 1, Revision: 2}); !errors.Is(err, fanout.ErrAhead) {
			t.Errorf("Join ahead of the replica = %v, want ErrAhead", err)
		}
		done := make(chan error)
		go func() {
			s, err := g.Join(t.Context(), fanout.Member{}, fanout.Position{Epoch: 1, Revision: 2})
			if err == nil {
				s.Close()
			}
			done <- err
		}()
		synctest.Wait()
		src.Put("u", "n", []byte("2"))
		if err := <-done; err != nil {
			t.Errorf("Join after the replica caught up = %v", err)
		}
	})
}

func TestSourceOutageKeepsStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fanouttest.NewSource(1)
		src.Fail(errors.New("database is down"))
		g := start(t, src, fanout.Limits{})
		r := &receiver{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Join(ctx, fanout.Member{}, r.at); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Join before the first set = %v", err)
		}
		src.Fail(nil)
		src.Put("u", "n", []byte("1"))
		s := join(t, g, r.at)
		follow(t, s, r, 1)
		src.Fail(errors.New("down again"))
		src.Break()
		<-time.After(time.Minute) // fake time: the group tries again and again
		src.Fail(nil)
		src.Put("u", "n", []byte("2"))
		follow(t, s, r, 2)
	})
}

// TestEveryStreamConverges runs streams of random speed, cuts and resyncs against random changes and a small window.
func TestEveryStreamConverges(t *testing.T) {
	t.Parallel()
	src := fanouttest.NewSource(1)
	g := start(t, src, fanout.Limits{Changes: 8, Every: time.Microsecond})
	const last = 300
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 2))
			r := &receiver{}
			s, err := g.Join(t.Context(), fanout.Member{}, r.at)
			for err == nil && r.at.Revision < last {
				var b *fanout.Batch
				if b, err = s.Next(t.Context()); err != nil {
					break
				}
				if rnd.IntN(20) == 0 { // the connection broke before the commit
					s.Close()
					s, err = g.Join(t.Context(), fanout.Member{}, r.at)
					continue
				}
				r.fold(t, b)
				if rnd.IntN(30) == 0 {
					s.Resync()
				}
			}
			if err != nil {
				t.Error(err)
			}
			s.Close()
		})
	}
	rnd := rand.New(rand.NewPCG(99, 2))
	for range last {
		uid := fmt.Sprintf("u%02d", rnd.IntN(20))
		if rnd.IntN(4) > 0 || !src.Remove(uid) {
			src.Put(uid, "n"+uid, fmt.Appendf(nil, "%d", rnd.Int()))
		}
	}
	wg.Wait()
}

func TestHubKeepsGroupsApart(t *testing.T) {
	t.Parallel()
	sources := map[string]*fanouttest.Source{"a": fanouttest.NewSource(1), "b": fanouttest.NewSource(2)}
	hub := fanout.NewHub(fanouttest.ByGroup(sources), fanout.Limits{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- hub.Run(ctx) }()
	for name, src := range sources {
		src.Put("u-"+name, "n", []byte("of "+name))
		g, release, err := hub.Acquire(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		r := &receiver{}
		follow(t, join(t, g, r.at), r, 1)
		if len(r.records) != 1 || r.records["routes/u-"+name] == nil {
			t.Errorf("group %s received %v", name, r.records)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

// The more streams there are, the longer the time over which they answer; few need not wait.
func TestAnswersAreSpreadOverManyStreams(t *testing.T) {
	t.Parallel()
	src := fanouttest.NewSource(1)
	g := start(t, src, fanout.Limits{})
	within := func(s *fanout.Stream) time.Duration {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		messages := decode(t, b)
		return messages[len(messages)-1].GetCommit().GetAcknowledgeWithin().AsDuration()
	}
	first := join(t, g, src.Position())
	src.Put("u", "n", []byte("1"))
	if d := within(first); d != 0 {
		t.Errorf("one stream is to answer within %v, want at once", d)
	}
	for range 99 {
		join(t, g, src.Position())
	}
	src.Put("u", "n", []byte("2"))
	if d := within(first); d != 20*time.Millisecond {
		t.Errorf("100 streams are to answer within %v", d)
	}
}

func TestCodecPassesOtherMessages(t *testing.T) {
	t.Parallel()
	want := &syncv1.EnrolResponse{Chain: [][]byte{{1, 2}}}
	raw, err := fanout.NewCodec().Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &syncv1.EnrolResponse{}
	if err := fanout.NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw.Materialize())}, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("round trip = %v, %v", got, err)
	}
}
