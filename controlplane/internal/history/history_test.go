package history_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/problem"
)

// log is a history without encryption; a body that says "away" cannot be opened now, one that says "broken" never.
type log struct {
	head    store.Head
	changes []store.Change
	sum     digest.Set
	records map[string][]byte
	// base and past are what is left of changes that were dropped.
	base store.Baseline
	past []store.Row
}

func newLog() *log {
	return &log{head: store.Head{Group: "g", Epoch: 7}, records: map[string][]byte{}}
}

func (l *log) Head(context.Context) (store.Head, error) { return l.head, nil }
func (l *log) VerifyHead(store.Head) error              { return nil }
func (l *log) Open(store.Row) ([]byte, error)           { return nil, errors.New("no rows here") }

func (l *log) OpenChange(c store.Change) ([]byte, error)     { return open(c.Sealed) }
func (l *log) OpenBaseline(b store.Baseline) ([]byte, error) { return open(b.Sealed) }
func (l *log) OpenPastRecord(row store.Row) ([]byte, error)  { return open(row.Sealed) }

func open(sealed []byte) ([]byte, error) {
	switch string(sealed) {
	case "away":
		return nil, sealer.ErrUnavailable
	case "broken":
		return nil, sealer.ErrUnreadable
	}
	return sealed, nil
}

func (l *log) Baseline(context.Context) (store.Baseline, error) { return l.base, nil }

func (l *log) BaselineRows(_ context.Context, yield func(store.Row) error) error {
	for _, row := range l.past {
		if err := yield(row); err != nil {
			return err
		}
	}
	return nil
}

// drop puts the first changes into the baseline.
func (l *log) drop(t *testing.T, n int) {
	t.Helper()
	records, sum := map[string]store.Row{}, digest.Set{}
	for _, c := range l.changes[:n] {
		body, err := history.Body(l, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, rm := range body.GetRemovals() {
			delete(records, rm.GetUid())
		}
		for _, up := range body.GetUpserts() {
			var rec syncv1.Record
			if err := proto.Unmarshal(up.GetRecord(), &rec); err != nil {
				t.Fatal(err)
			}
			records[rec.GetUid()] = store.Row{Kind: rec.GetKind(), UID: rec.GetUid(), Revision: c.Revision, Sealed: up.GetRecord()}
		}
	}
	for _, row := range records {
		l.past = append(l.past, row)
		sum.Add(row.Kind, row.UID, row.Sealed)
	}
	state, err := sum.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	l.base, l.changes = store.Baseline{Revision: int64(n), Sealed: state}, l.changes[n:]
}

func (l *log) Changes(_ context.Context, yield func(store.Change) error) error {
	for _, c := range l.changes {
		if err := yield(c); err != nil {
			return err
		}
	}
	return nil
}

// commit makes a revision that puts m as kind, uid and name, or with nil removes it.
func (l *log) commit(t *testing.T, kind, uid, name string, m proto.Message) {
	t.Helper()
	l.head.Revision++
	body := &syncv1.ChangeBody{Epoch: l.head.Epoch, Revision: l.head.Revision}
	if old, ok := l.records[uid]; ok {
		l.sum.Remove(kind, uid, old)
		delete(l.records, uid)
	}
	if m == nil {
		body.Removals = append(body.Removals, &syncv1.Removal{Kind: kind, Uid: uid, Name: name})
	} else {
		packed, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		l.records[uid] = marshal(t, &syncv1.Record{Kind: kind, Uid: uid, Name: name, Resource: packed})
		l.sum.Add(kind, uid, l.records[uid])
		body.Upserts = append(body.Upserts, &syncv1.Upsert{Record: l.records[uid]})
	}
	sum := l.sum.Sum()
	body.Digest, l.head.Digest = sum[:], sum
	l.changes = append(l.changes, store.Change{Revision: l.head.Revision, Epoch: l.head.Epoch, Sealed: marshal(t, body)})
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// example is a service that comes, changes, goes and comes again as it was, beside a system record.
func example(t *testing.T) *log { t.Helper(); return variant(t, "pepper", "http://a") }

// variant is the example with another beginning or another end.
func variant(t *testing.T, pepper, last string) *log {
	t.Helper()
	l := newLog()
	l.commit(t, "pepper-terms", "p", "1", &systemv1.PepperTerm{Term: 1, Key: []byte(pepper)})
	l.commit(t, "services", "a", "s", &configv1.Service{Name: "s", Url: "http://a"})
	l.commit(t, "services", "a", "s", &configv1.Service{Name: "s", Url: "http://b"})
	l.commit(t, "services", "a", "s", nil)
	l.commit(t, "services", "b", "s", &configv1.Service{Name: "s", Url: last})
	return l
}

func read(t *testing.T, l *log, revisions ...int64) ([]*history.Set, error) {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	return history.Read(t.Context(), l, l, cat.Kinds(), revisions...)
}

func TestDiffIsTheNetChangeOfWhatUsersWrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to int64
		want     []string
	}{
		{0, 1, nil}, // a system record
		{1, 2, []string{"services/s: none to 2"}},
		{2, 3, []string{"services/s: 2 to 3"}},
		{2, 4, []string{"services/s: 2 to none"}},
		{2, 5, nil}, // removed and made again alike
		{3, history.Newest, []string{"services/s: 3 to 5"}},
		{5, 1, []string{"services/s: 5 to none"}},
		{4, 4, nil},
	} {
		sets, err := read(t, example(t), tt.from, tt.to)
		if err != nil {
			t.Fatal(err)
		}
		differences, err := history.Diff(sets[0], sets[1])
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range differences {
			was, is := "none", "none"
			if d.Before != nil {
				was = fmt.Sprint(d.Before.Revision)
			}
			if d.After != nil {
				is = fmt.Sprint(d.After.Revision)
			}
			got = append(got, catalog.Ref(d.Kind, d.Name)+": "+was+" to "+is)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%d to %d (-want +got):\n%s", tt.from, tt.to, diff)
		}
	}
}

// TestOnlyTheWholeTrueHistoryIsRead: whatever is wrong anywhere refuses every revision, the untouched ones too.
func TestOnlyTheWholeTrueHistoryIsRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		touch func(l *log)
	}{
		{"the first is missing", func(l *log) { l.changes = l.changes[1:] }},
		{"one is missing", func(l *log) { l.changes = append(l.changes[:2:2], l.changes[3:]...) }},
		{"the newest is missing", func(l *log) { l.changes = l.changes[:4] }},
		{"one does not open", func(l *log) { l.changes[2].Sealed = []byte("broken") }},
		{"one is no change", func(l *log) { l.changes[2].Sealed = []byte{0xff} }},
		{"one is in place of another", func(l *log) { l.changes[3].Sealed = l.changes[2].Sealed }},
		{"one is of another epoch", func(l *log) { l.changes[2].Epoch++ }},
		{"one says something else than its digest", func(l *log) { l.changes[2].Sealed = altered(t, l.changes[2], l.changes[1]) }},
		{"the first is of another history", func(l *log) { l.changes[0] = variant(t, "other", "http://a").changes[0] }},
		{"the newest is of another history", func(l *log) { l.changes[4] = variant(t, "pepper", "http://c").changes[4] }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := example(t)
			tt.touch(l)
			if _, err := read(t, l, 2); err == nil || problem.Of(err).Code != problem.Unavailable {
				t.Errorf("Read = %v, want it refused", err)
			}
		})
	}
}

// altered is the body of a change that puts what another one puts.
func altered(t *testing.T, c, other store.Change) []byte {
	t.Helper()
	var body, from syncv1.ChangeBody
	if err := errors.Join(proto.Unmarshal(c.Sealed, &body), proto.Unmarshal(other.Sealed, &from)); err != nil {
		t.Fatal(err)
	}
	body.Upserts = from.GetUpserts()
	return marshal(t, &body)
}

// TestAKeyringThatIsAwayIsNoDamage keeps apart what goes by and what stays.
func TestAKeyringThatIsAwayIsNoDamage(t *testing.T) {
	t.Parallel()
	l := example(t)
	l.changes[2].Sealed = []byte("away")
	if _, err := read(t, l, 2); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("Read = %v, want ErrUnavailable", err)
	}
}

func TestARevisionToComeIsNotFound(t *testing.T) {
	t.Parallel()
	for _, revision := range []int64{6, -2} {
		if _, err := read(t, example(t), revision); err == nil || problem.Of(err).Code != problem.NotFound {
			t.Errorf("Read(%d) = %v, want not found", revision, err)
		}
	}
}

// TestWhatWasDroppedIsInTheBaseline: what is kept reads as if nothing had been dropped, and what is not is said to be gone.
func TestWhatWasDroppedIsInTheBaseline(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 4; n++ {
		whole, l := example(t), example(t)
		l.drop(t, n)
		for revision := int64(1); revision <= 5; revision++ {
			got, err := read(t, l, revision)
			if revision < int64(n) {
				want := fmt.Sprintf("the oldest revision that is kept is %d", n+1)
				if err == nil || problem.Of(err).Code != problem.NotFound || !strings.Contains(problem.Of(err).Detail, want) {
					t.Errorf("%d dropped, revision %d: %v, want it gone", n, revision, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%d dropped, revision %d: %v", n, revision, err)
			}
			want, err := read(t, whole, revision)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(resources(t, want[0]), resources(t, got[0])); diff != "" {
				t.Errorf("%d dropped, revision %d (-want +got):\n%s", n, revision, diff)
			}
		}
	}
}

// resources says what is in a set, and since when.
func resources(t *testing.T, s *history.Set) []string {
	t.Helper()
	all, err := s.Resources()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, r := range all {
		out = append(out, fmt.Sprintf("%s %s %d %x", catalog.Ref(r.Kind, r.Name), r.UID, r.Revision, r.Record))
	}
	return out
}

// TestOnlyATrueBaselineIsRead: the baseline is held against its digest and the kept changes like everything else.
func TestOnlyATrueBaselineIsRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		touch func(t *testing.T, l *log)
	}{
		{"it is missing", func(t *testing.T, l *log) { l.base, l.past = store.Baseline{}, nil }},
		{"its position is missing", func(t *testing.T, l *log) { l.base = store.Baseline{} }},
		{"its records are missing", func(t *testing.T, l *log) { l.past = nil }},
		{"one record is missing", func(t *testing.T, l *log) { l.past = l.past[1:] }},
		{"one record does not open", func(t *testing.T, l *log) { l.past[0].Sealed = []byte("broken") }},
		{"one record is no record", func(t *testing.T, l *log) { l.past[0].Sealed = []byte{0xff} }},
		{"its digest does not open", func(t *testing.T, l *log) { l.base.Sealed = []byte("broken") }},
		{"its digest is none", func(t *testing.T, l *log) { l.base.Sealed = []byte("short") }},
		{"it is of another revision", func(t *testing.T, l *log) { l.base.Revision-- }},
		{"a change is missing behind it", func(t *testing.T, l *log) { l.changes = l.changes[1:] }},
		{"a change is there twice", func(t *testing.T, l *log) { l.changes = append(example(t).changes[1:2:2], l.changes...) }},
		{"it is of another history", func(t *testing.T, l *log) {
			other := variant(t, "other", "http://a")
			other.drop(t, 2)
			l.base, l.past = other.base, other.past
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := example(t)
			l.drop(t, 2)
			tt.touch(t, l)
			if _, err := read(t, l, 4); err == nil || problem.Of(err).Code != problem.Unavailable {
				t.Errorf("Read = %v, want it refused", err)
			}
		})
	}
}
