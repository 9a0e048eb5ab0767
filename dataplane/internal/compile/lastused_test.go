package compile_test

import (
	"maps"
	"testing"

	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// marksOf are the marks of a runtime's credentials by uid.
func marksOf(rt *runtime.Runtime) map[string]*lastuse.Mark {
	all := map[string]*lastuse.Mark{}
	for part := range rt.Directory.Parts() {
		maps.Insert(all, rt.Directory.Marks(part))
	}
	return all
}

// What is known of the use of a credential outlives changes of everything else, and goes with it.
func TestMarksOutliveOtherChanges(t *testing.T) {
	t.Parallel()
	p, term := pepper(1)
	mine, other := credential(term, "mine", "alice", "k1"), credential(term, "other", "bob", "k2")
	alice := func(groups ...string) statetest.Record {
		return record("consumers", "alice", "alice", &configv1.Consumer{Name: "alice", Groups: groups})
	}
	source, folder := statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{})
	c := newCompiler()
	source.Change([]statetest.Record{p, alice(), record("consumers", "bob", "bob", &configv1.Consumer{Name: "bob"}), mine, other}, nil)
	rt, _ := c.Build(statetest.Fold(t, folder, source.Reset()), nil)
	before := marksOf(rt)
	if len(before) != 2 || before["mine"] == nil || before["mine"] == before["other"] {
		t.Fatalf("marks %v, want one of each credential", before)
	}
	steps := []struct {
		name             string
		upserts, removes []statetest.Record
		want             int
	}{
		{"another resource", []statetest.Record{record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:9"})}, nil, 2},
		{"its consumer", []statetest.Record{alice("gold")}, nil, 2},
		{"the consumer's group", []statetest.Record{record("consumer-groups", "gold", "gold", &configv1.ConsumerGroup{Name: "gold"})}, nil, 2},
		{"the credential itself", []statetest.Record{bound(mine, "laptop")}, nil, 2},
		{"another credential goes", nil, []statetest.Record{other}, 1},
		{"it goes itself", nil, []statetest.Record{mine}, 0},
	}
	for _, tt := range steps { // one after the other
		rt, _ = c.Build(statetest.Fold(t, folder, source.Change(tt.upserts, tt.removes)), rt)
		got := marksOf(rt)
		if len(got) != tt.want || tt.want > 0 && got["mine"] != before["mine"] {
			t.Fatalf("%s: marks %v, want %d and that of mine as before", tt.name, got, tt.want)
		}
	}
	source.Change([]statetest.Record{mine}, nil)
	rt, _ = c.Build(statetest.Fold(t, folder, source.Reset()), rt)
	before = marksOf(rt)
	rt, _ = c.Build(statetest.Fold(t, folder, source.Reset()), rt) // the whole set again, as after a reconnect
	if got := marksOf(rt); len(got) != 1 || got["mine"] != before["mine"] {
		t.Error("a set that is sent whole again forgets what was used")
	}
}
