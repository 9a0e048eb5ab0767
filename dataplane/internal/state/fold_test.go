package state_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

func route(uid, name, text string) statetest.Record {
	return statetest.Record{Kind: "routes", UID: uid, Name: name, Resource: &configv1.Route{Name: name, Description: text}}
}

func newFolder() *state.Folder { return state.NewFolder(state.Empty(), state.Limits{}) }

// joined returns a folder that has the source's set.
func joined(t testing.TB, src *statetest.Source) *state.Folder {
	t.Helper()
	f := newFolder()
	statetest.Fold(t, f, src.Reset())
	return f
}

// content is what a set says, for comparing.
func content(s *state.Set) map[string]string {
	m := map[string]string{"digest": fmt.Sprintf("%x", s.Digest)}
	for _, kind := range s.Kinds() {
		for r := range s.All(kind) {
			m[kind+"/"+r.UID] = r.Name + " " + r.Unreadable + " " + string(r.Bytes)
			if got := s.ByUID(kind, r.UID); got != r {
				m[r.UID] = "uid index is wrong"
			}
			if got := s.Get(kind, r.Name); r.Name != "" && got != r {
				m[r.UID] = "name index is wrong"
			}
		}
	}
	return m
}

func TestFoldKeepsEarlierSets(t *testing.T) {
	t.Parallel()
	src := statetest.NewSource(7)
	f := joined(t, src)
	one := statetest.Fold(t, f, src.Change([]statetest.Record{route("u1", "a", "1"), route("u2", "b", "1")}, nil))
	before := content(one)
	two := statetest.Fold(t, f, src.Change([]statetest.Record{route("u1", "a", "2"), route("u3", "b", "new")}, []statetest.Record{{Kind: "routes", UID: "u2"}}))
	if diff := cmp.Diff(before, content(one)); diff != "" {
		t.Errorf("the earlier set has changed (-before +after):\n%s", diff)
	}
	if got := two.Get("routes", "b"); got == nil || got.UID != "u3" {
		t.Errorf("Get(routes, b) = %+v, want the new owner of the name", got)
	}
	if two.Epoch != 7 || two.Revision != 2 || two.Len("routes") != 2 {
		t.Errorf("set is at %d/%d with %d routes, want 7/2 with 2", two.Epoch, two.Revision, two.Len("routes"))
	}
	var changed []string
	for a, b := range two.Changed(one) {
		changed = append(changed, fmt.Sprint(name(a), ">", name(b)))
	}
	if len(changed) != 3 {
		t.Errorf("Changed = %v, want u1 changed, u2 gone, u3 new", changed)
	}
}

func name(r *state.Record) string {
	if r == nil {
		return "-"
	}
	return r.UID
}

func TestNamesMoveInAnyOrderOfFrames(t *testing.T) {
	t.Parallel()
	src := statetest.NewSource(1)
	f := joined(t, src)
	statetest.Fold(t, f, src.Change([]statetest.Record{route("u1", "a", ""), route("u2", "b", "")}, nil))
	got := statetest.Fold(t, f, src.Change([]statetest.Record{route("u1", "b", ""), route("u2", "a", "")}, nil))
	if got.Get("routes", "a").UID != "u2" || got.Get("routes", "b").UID != "u1" {
		t.Errorf("names did not move: %v", content(got))
	}
}

func TestUnreadableRecordsAreExplicit(t *testing.T) {
	t.Parallel()
	unknown := &configv1.Route{Name: "n"}
	unknown.ProtoReflect().SetUnknown([]byte{0xa0, 0xcf, 0x24, 1})
	nested := &configv1.Route{Name: "o", Rewrite: &configv1.Rewrite{}}
	nested.Rewrite.ProtoReflect().SetUnknown([]byte{0xa0, 0xcf, 0x24, 1})
	set := statetest.Set(t,
		statetest.Record{Kind: "routes", UID: "u1", Name: "closed"},
		statetest.Record{Kind: "routes", UID: "u2", Name: "n", Resource: unknown},
		statetest.Record{Kind: "routes", UID: "u3", Name: "o", Resource: nested},
		statetest.Record{Kind: "routes", UID: "u4", Name: "p", Resource: &configv1.Service{Name: "p"}},
		route("u5", "q", ""))
	for uid, want := range map[string]string{"u1": "could not open", "u2": "does not know", "u3": "does not know", "u4": "another kind", "u5": ""} {
		r := set.ByUID("routes", uid)
		if r == nil {
			t.Errorf("record %s is not there", uid)
			continue
		}
		if m, reason := r.Decode(); !strings.Contains(reason, want) || (want == "") != (m != nil) || (want == "") != (reason == "") {
			t.Errorf("record %s decodes to %v, %q; want unreadable %q", uid, m, reason, want)
		}
	}
	if set.Get("routes", "closed") == nil {
		t.Error("an unreadable record is not found by its name")
	}
}

func TestFoldRefuses(t *testing.T) {
	t.Parallel()
	big := route("u9", "big", strings.Repeat("x", 5000))
	change := func(s *statetest.Source, edit func([]*syncv1.ConfigResponse) []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
		s.FrameBytes = 1000
		return edit(s.Change([]statetest.Record{big}, nil))
	}
	tests := []struct {
		name string
		edit func([]*syncv1.ConfigResponse) []*syncv1.ConfigResponse
		want string
	}{
		{"missing frame", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { return append(m[:2:2], m[3:]...) }, "was due"},
		{"missing first frame", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { return append(m[:1:1], m[2:]...) }, "was due"},
		{"missing last frame", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { return append(m[:6:6], m[len(m)-1]) }, "not complete"},
		{"twice", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { return append(m[:7:7], m[1:]...) }, "twice"},
		{"flipped bit", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { m[3].GetFrame().Bytes[7] ^= 1; return m }, "digest"},
		{"missing record", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { return append(m[:1:1], m[len(m)-1]) }, "digest"},
		{"moved to another uid", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			for _, x := range m[1 : len(m)-1] {
				x.GetFrame().Uid = "u8"
			}
			return m
		}, "another one inside"},
		{"moved to another name", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { m[1].GetFrame().Name = "n"; return m }, "another name inside"},
		{"gap", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { m[0].GetBegin().FromRevision = 3; return m }, "from revision 3 onto 1"},
		{"rewound", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { m[0].GetBegin().FromRevision = 0; return m }, "older revision"},
		{"rewound reset", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			m[0].GetBegin().Reset_ = true
			m[len(m)-1].GetCommit().Revision = 0
			return m
		}, "older revision"},
		{"standing still", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			m[len(m)-1].GetCommit().Revision = 1
			return m
		}, "does not move"},
		{"other epoch", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { m[0].GetBegin().Epoch = 8; return m }, "another epoch"},
		{"no epoch", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { m[0].GetBegin().Epoch = 0; return m }, "no epoch"},
		{"epoch changes inside", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			m[len(m)-1].GetCommit().Epoch = 8
			return m
		}, "different epochs"},
		{"begins twice", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { return append(m[:1:1], m...) }, "inside another"},
		{"taken name", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			b := statetest.Record{Kind: "routes", UID: "u7", Name: "a", Resource: &configv1.Route{Name: "a"}}.Bytes()
			m[1] = &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Frame{Frame: &syncv1.Frame{Kind: "routes", Uid: "u7", Last: true, Bytes: b}}}
			return append(m[:2:2], m[len(m)-1])
		}, "have one name"},
		{"unknown removal", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			m[1] = &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Frame{Frame: &syncv1.Frame{Kind: "routes", Uid: "u7", Removed: true}}}
			return append(m[:2:2], m[len(m)-1])
		}, "was not there"},
		{"no uid", func(m []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { m[1].GetFrame().Uid = ""; return m }, "without kind or uid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := statetest.NewSource(7)
			f := joined(t, src)
			good := statetest.Fold(t, f, src.Change([]statetest.Record{route("u1", "a", "")}, nil))
			var err error
			for _, m := range change(src, tt.edit) {
				if _, e := f.Fold(m); e != nil {
					err = errors.Join(err, e)
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Fold error = %v, want %q", err, tt.want)
			}
			if f.Set() != good {
				t.Fatal("a refused change took effect")
			}
			if got := statetest.Fold(t, f, src.Reset()); got.Revision != 2 || got.Len("routes") != 2 {
				t.Errorf("after resync: revision %d with %d routes", got.Revision, got.Len("routes"))
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		limits state.Limits
		want   string
	}{
		{"record", state.Limits{RecordBytes: 2000}, "larger than 2000"},
		{"set bytes", state.Limits{SetBytes: 2000}, "more than allowed"},
		{"set records", state.Limits{SetRecords: 1}, "more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, src := state.NewFolder(state.Empty(), tt.limits), statetest.NewSource(1)
			statetest.Fold(t, f, src.Reset())
			src.FrameBytes = 500
			var err error
			for _, m := range src.Change([]statetest.Record{route("u1", "a", strings.Repeat("x", 3000)), route("u2", "b", "")}, nil) {
				_, e := f.Fold(m)
				err = errors.Join(err, e)
			}
			var fit *state.MisfitError
			if !errors.As(err, &fit) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Fold error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNewEpochNeedsReset(t *testing.T) {
	t.Parallel()
	src := statetest.NewSource(1)
	f := joined(t, src)
	for range 5 {
		statetest.Fold(t, f, src.Change([]statetest.Record{route("u1", "a", "")}, nil))
	}
	restored := statetest.NewSource(2)
	restored.Change([]statetest.Record{route("u2", "b", "")}, nil)
	got := statetest.Fold(t, f, restored.Reset())
	if got.Epoch != 2 || got.Revision != 1 || got.ByUID("routes", "u1") != nil {
		t.Errorf("set after a restore is at %d/%d: %v", got.Epoch, got.Revision, content(got))
	}
}

// randomChange changes a few of thirty uids, so that names collide, move and return.
func randomChange(r *rand.Rand, src *statetest.Source) []*syncv1.ConfigResponse {
	var upserts, removes []statetest.Record
	names := map[string]bool{}
	have := map[string]statetest.Record{}
	for _, x := range src.Records() {
		have[x.UID], names[x.Name] = x, true
	}
	for range 1 + r.IntN(4) {
		uid := fmt.Sprintf("u%02d", r.IntN(30))
		old, there := have[uid]
		delete(have, uid)
		switch {
		case there && r.IntN(3) == 0:
			removes = append(removes, old)
			delete(names, old.Name)
		case there:
			upserts = append(upserts, statetest.Record{Kind: "routes", UID: uid, Name: old.Name, Resource: body(r)})
		default:
			name := fmt.Sprintf("n%02d", r.IntN(40))
			if names[name] || contains(upserts, removes, uid) {
				continue
			}
			names[name] = true
			upserts = append(upserts, statetest.Record{Kind: "routes", UID: uid, Name: name, Resource: body(r)})
		}
	}
	return src.Change(upserts, removes)
}

func body(r *rand.Rand) proto.Message {
	if r.IntN(10) == 0 {
		return nil
	}
	return &configv1.Route{Description: strings.Repeat("d", r.IntN(300)), Rewrite: &configv1.Rewrite{}}
}

func contains(a, b []statetest.Record, uid string) bool {
	for _, x := range append(slices.Clip(a), b...) {
		if x.UID == uid {
			return true
		}
	}
	return false
}

// TestAnyPrefixAndResyncEqualsTheFullSet cuts the stream anywhere, also inside a change, and resyncs.
func TestAnyPrefixAndResyncEqualsTheFullSet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		src := statetest.NewSource(1)
		src.FrameBytes = 64
		whole, cut := joined(t, src), newFolder()
		var prev *state.Set
		for range 30 {
			ms := randomChange(r, src)
			prev = whole.Set()
			got := statetest.Fold(t, whole, ms)
			checkChanged(t, prev, got)
			full := statetest.Fold(t, newFolder(), src.Reset())
			if diff := cmp.Diff(content(full), content(got)); diff != "" {
				t.Fatalf("seed %d revision %d: deltas differ from the full set (-full +deltas):\n%s", seed, src.Revision, diff)
			}
			if r.IntN(3) > 0 {
				for _, m := range ms[:r.IntN(len(ms))] {
					_, _ = cut.Fold(m) // a gap, where it missed the change before
				}
				cut.Abandon()
				resynced := statetest.Fold(t, cut, src.Reset())
				if diff := cmp.Diff(content(full), content(resynced)); diff != "" {
					t.Fatalf("seed %d revision %d: prefix and resync (-full +got):\n%s", seed, src.Revision, diff)
				}
			}
		}
	}
}

// checkChanged applies what Changed says to the old content and wants the new.
func checkChanged(t *testing.T, a, b *state.Set) {
	t.Helper()
	got := map[string]*state.Record{}
	for r := range a.All("routes") {
		got[r.UID] = r
	}
	for before, after := range b.Changed(a) {
		if before != nil {
			delete(got, before.UID)
		}
		if after != nil {
			got[after.UID] = after
		}
	}
	for r := range b.All("routes") {
		if got[r.UID] != r {
			t.Fatalf("Changed misses %s", r.UID)
		}
		delete(got, r.UID)
	}
	if len(got) > 0 {
		t.Fatalf("Changed misses %d removals", len(got))
	}
}

func FuzzFold(f *testing.F) {
	src := statetest.NewSource(1)
	src.FrameBytes = 40
	var seed []byte
	for _, m := range append(src.Change([]statetest.Record{route("u1", "a", "x"), {Kind: "routes", UID: "u2", Name: "b"}}, nil), src.Reset()...) {
		b, _ := proto.Marshal(m)
		seed = append(append(seed, byte(len(b))), b...)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, in []byte) {
		folder := newFolder()
		for len(in) > 1 {
			n := min(int(in[0]), len(in)-1)
			var m syncv1.ConfigResponse
			if proto.Unmarshal(in[1:1+n], &m) == nil {
				before := folder.Set()
				set, err := folder.Fold(&m)
				if err != nil && (set != nil || folder.Set() != before) {
					t.Fatal("an error changed the set")
				}
				if set != nil && set.Epoch == before.Epoch && set.Revision < before.Revision {
					t.Fatal("the revision went back")
				}
			}
			in = in[1+n:]
		}
		content(folder.Set())
	})
}
