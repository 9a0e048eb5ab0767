package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/runtime"
)

func listed(rt *runtime.Runtime, service string) []string {
	var uids []string
	eachUser(rt.Users, service, func(uid string) { uids = append(uids, uid) })
	slices.Sort(uids)
	return uids
}

// The lists follow random changes, hold no route twice and none that is gone, and those of older runtimes do not change.
func TestUsersFollowChanges(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4, 2))
	services := []string{"a", "b", "c"}
	type version struct {
		rt   *runtime.Runtime
		want map[string][]string
	}
	versions := []version{{rt: empty(), want: map[string][]string{}}}
	at := map[string]string{} // uid → service
	for range 60 {
		u := usersOf(versions[len(versions)-1].rt.Users)
		for range rng.IntN(200) {
			uid := fmt.Sprint("route-", rng.IntN(300))
			if old, ok := at[uid]; ok {
				u.remove(old, uid)
				delete(at, uid)
			}
			if rng.IntN(3) > 0 {
				at[uid] = services[rng.IntN(len(services))]
				u.add(at[uid], uid)
			}
		}
		want := map[string][]string{}
		for uid, service := range at {
			want[service] = append(want[service], uid)
		}
		for _, uids := range want {
			slices.Sort(uids)
		}
		versions = append(versions, version{rt: &runtime.Runtime{Users: u.edit.Map()}, want: want})
	}
	for i, v := range versions {
		for _, service := range services {
			if diff := cmp.Diff(v.want[service], listed(v.rt, service)); diff != "" {
				t.Fatalf("version %d, service %s (-want +got):\n%s", i, service, diff)
			}
		}
	}
}
