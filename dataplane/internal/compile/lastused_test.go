package compile_test

import (
	"testing"
	"time"

	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// usesOf are what is to be reported of a runtime, by uid.
func usesOf(rt *runtime.Runtime) map[string]time.Time {
	all := map[string]time.Time{}
	for _, u := range lastuse.NewWalk().Take(rt.Directory) {
		all[u.UID] = u.At
	}
	return all
}

// What is known of the use of a credential outlives changes of everything else, and goes with it.
func TestUsesOutliveChanges(t *testing.T) {
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
	at := time.Unix(1_800_000_000, 0)
	for key, when := range map[string]time.Time{"k1": at, "k2": at.Add(time.Minute)} {
		rt.Directory.Credential("key-auth", []byte(key)).Principal.Used.Note(when)
	}
	both := []string{"mine", "other"}
	steps := []struct {
		name             string
		upserts, removes []statetest.Record
		want             []string
	}{
		{"another resource", []statetest.Record{record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:9"})}, nil, both},
		{"its consumer", []statetest.Record{alice("gold")}, nil, both},
		{"the consumer's group", []statetest.Record{record("consumer-groups", "gold", "gold", &configv1.ConsumerGroup{Name: "gold"})}, nil, both},
		{"the credential itself", []statetest.Record{bound(mine, "laptop")}, nil, both},
		{"the whole set is sent again", nil, nil, both},
		{"another credential goes", nil, []statetest.Record{other}, []string{"mine"}},
		{"it goes itself", nil, []statetest.Record{mine}, nil},
	}
	for _, tt := range steps { // one after the other
		frames := source.Change(tt.upserts, tt.removes)
		if len(tt.upserts)+len(tt.removes) == 0 {
			frames = source.Reset()
		}
		rt, _ = c.Build(statetest.Fold(t, folder, frames), rt)
		got := usesOf(rt)
		if len(got) != len(tt.want) {
			t.Fatalf("%s: uses %v, want those of %v", tt.name, got, tt.want)
		}
		for _, uid := range tt.want {
			if want := map[string]time.Time{"mine": at, "other": at.Add(time.Minute)}[uid]; !got[uid].Equal(want) {
				t.Errorf("%s: %s was used at %s, want %s", tt.name, uid, got[uid], want)
			}
		}
	}
}
