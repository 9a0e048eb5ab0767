package fanout_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/controlplane/internal/fanout"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/digest"
)

func decode(t testing.TB, b *fanout.Batch) []*syncv1.ConfigResponse {
	t.Helper()
	var out []*syncv1.ConfigResponse
	for i := range b.Messages {
		raw, err := fanout.NewCodec().Marshal(&b.Messages[i])
		if err != nil {
			t.Fatal(err)
		}
		m := &syncv1.ConfigResponse{}
		if err := proto.Unmarshal(raw.Materialize(), m); err != nil {
			t.Fatalf("message %d does not parse: %v", i, err)
		}
		if m.GetFrame() != nil && raw.Len() >= 256<<10 {
			t.Errorf("a frame has %d bytes", raw.Len())
		}
		out = append(out, m)
	}
	var batched []*syncv1.ConfigResponse
	for i := range b.Packs {
		raw, err := fanout.NewCodec().Marshal(&b.Packs[i])
		if err != nil {
			t.Fatal(err)
		}
		m := &syncv1.ConfigResponse{}
		if err := proto.Unmarshal(raw.Materialize(), m); err != nil || raw.Len() > 320<<10 {
			t.Fatalf("batch %d of %d bytes: %v", i, raw.Len(), err)
		}
		batched = append(batched, m.GetBatch().GetMessages()...)
	}
	if !slices.EqualFunc(batched, out, func(a, b *syncv1.ConfigResponse) bool { return proto.Equal(a, b) }) {
		t.Errorf("the batches hold others than the %d messages: %d", len(out), len(batched))
	}
	return out
}

// receiver folds like a gateway, as simply as possible, and checks every digest.
type receiver struct {
	at      fanout.Position
	records map[string][]byte
	resets  int
}

func (r *receiver) fold(t testing.TB, b *fanout.Batch) {
	t.Helper()
	var part []byte
	for _, m := range decode(t, b) {
		switch m := m.GetMessage().(type) {
		case *syncv1.ConfigResponse_Begin:
			if m.Begin.GetReset_() {
				r.records = map[string][]byte{}
				r.resets++
			} else if m.Begin.GetFromRevision() != r.at.Revision || m.Begin.GetEpoch() != r.at.Epoch {
				t.Fatalf("a change from %d of epoch %d onto %+v", m.Begin.GetFromRevision(), m.Begin.GetEpoch(), r.at)
			}
		case *syncv1.ConfigResponse_Frame:
			f := m.Frame
			k := f.GetKind() + "/" + f.GetUid()
			switch {
			case f.GetRemoved():
				delete(r.records, k)
			case f.GetUnreadable():
				r.records[k] = nil
			default:
				if f.GetOffset() != int64(len(part)) {
					t.Fatalf("frame at %d, want %d", f.GetOffset(), len(part))
				}
				part = append(part, f.GetBytes()...)
				if f.GetLast() {
					r.records[k], part = part, nil
				}
			}
		case *syncv1.ConfigResponse_Commit:
			r.commit(t, m.Commit)
		}
	}
}

func (r *receiver) commit(t testing.TB, c *syncv1.Commit) {
	t.Helper()
	if c.GetEpoch() == r.at.Epoch && c.GetRevision() < r.at.Revision {
		t.Fatalf("revision %d after %d", c.GetRevision(), r.at.Revision)
	}
	var d digest.Set
	for k, b := range r.records {
		if b != nil {
			kind, uid, _ := bytes.Cut([]byte(k), []byte("/"))
			d.Add(string(kind), string(uid), b)
		}
	}
	sum := d.Sum()
	if !bytes.Equal(sum[:], c.GetDigest()) {
		t.Fatalf("digest of revision %d does not match", c.GetRevision())
	}
	r.at = fanout.Position{Epoch: c.GetEpoch(), Revision: c.GetRevision(), Digest: sum}
}

func start(t testing.TB, src fanout.Source, limits fanout.Limits) *fanout.Group {
	t.Helper()
	g := fanout.NewGroup("pay", src, limits, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return g
}

func follow(t testing.TB, s *fanout.Stream, r *receiver, until int64) {
	t.Helper()
	for r.at.Revision < until {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.fold(t, b)
	}
}

func join(t testing.TB, g *fanout.Group, at fanout.Position) *fanout.Stream {
	t.Helper()
	s, err := g.Join(t.Context(), fanout.Member{}, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
