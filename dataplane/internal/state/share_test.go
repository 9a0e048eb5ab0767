package state_test

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

func shared(share *state.Share) *state.Folder {
	f := state.NewFolder(state.Empty(), state.Limits{})
	f.ShareWith(share)
	return f
}

func sharedRoute(uid, name, text string) statetest.Record {
	return statetest.Record{Kind: "routes", UID: uid, Name: name, Resource: &configv1.Route{Name: name, Description: text}}
}

// copies are the messages as another stream would receive them.
func copies(ms []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
	out := make([]*syncv1.ConfigResponse, len(ms))
	for i, m := range ms {
		out[i] = proto.CloneOf(m)
	}
	return out
}

func TestSharingFoldersHoldOneSet(t *testing.T) {
	t.Parallel()
	src := statetest.NewSource(1)
	src.Change([]statetest.Record{sharedRoute("u1", "a", "1"), sharedRoute("u2", "b", "2")}, nil)
	reset := src.Reset()
	change := src.Change([]statetest.Record{sharedRoute("u1", "a", "3")}, []statetest.Record{sharedRoute("u2", "b", "2")})
	share := state.NewShare()
	folders := make([]*state.Folder, 8)
	var all sync.WaitGroup
	for i := range folders {
		folders[i] = shared(share)
		mine := slices.Concat(copies(reset), copies(change))
		all.Go(func() { statetest.Fold(t, folders[i], mine) })
	}
	all.Wait()
	late := shared(share) // by the other way to the same revision
	statetest.Fold(t, late, src.Reset())
	alone := statetest.Fold(t, state.NewFolder(state.Empty(), state.Limits{}), src.Reset())
	for i, f := range append(folders, late) {
		set := f.Set()
		if set != folders[0].Set() {
			t.Errorf("folder %d holds a set of its own", i)
		}
		if set.Digest != alone.Digest || set.Revision != alone.Revision || set.Len("routes") != 1 || set.Get("routes", "b") != nil {
			t.Errorf("folder %d holds revision %d with %d routes", i, set.Revision, set.Len("routes"))
		}
	}
}

func TestSharingFolderVerifiesWhatItReceived(t *testing.T) {
	t.Parallel()
	src := statetest.NewSource(1)
	src.Change([]statetest.Record{sharedRoute("u1", "a", "1"), sharedRoute("u2", "b", "2")}, nil)
	reset := src.Reset()
	share := state.NewShare()
	good := shared(share)
	statetest.Fold(t, good, copies(reset))
	for _, test := range []struct {
		name string
		edit func([]*syncv1.ConfigResponse) []*syncv1.ConfigResponse
	}{
		{"a record less", func(ms []*syncv1.ConfigResponse) []*syncv1.ConfigResponse { return slices.Delete(ms, 1, 2) }},
		{"another record", func(ms []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			other := statetest.NewSource(1)
			other.Change([]statetest.Record{sharedRoute("u1", "a", "x")}, nil)
			ms[1] = other.Reset()[1]
			return ms
		}},
		{"another digest", func(ms []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
			ms[len(ms)-1].GetCommit().Digest[0] ^= 1
			return ms
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := shared(share)
			var err error
			for _, m := range test.edit(copies(reset)) {
				if _, e := f.Fold(m); e != nil {
					err = e
				}
			}
			var misfit *state.MisfitError
			if !errors.As(err, &misfit) || f.Set().Revision != 0 {
				t.Errorf("error %v, revision %d", err, f.Set().Revision)
			}
		})
	}
	runtime.KeepAlive(good)
}

// TestShareForgets would run out of memory if what no folder holds were kept.
func TestShareForgets(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	share, src := state.NewShare(), statetest.NewSource(1)
	f := shared(share)
	statetest.Fold(t, f, src.Reset())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 64 {
		text := string(slices.Repeat([]byte{byte('a' + i%26)}, size)) + string(rune('a'+i/26))
		statetest.Fold(t, f, src.Change([]statetest.Record{sharedRoute("u1", "a", text)}, nil))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32*size {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	runtime.KeepAlive(f)
}
