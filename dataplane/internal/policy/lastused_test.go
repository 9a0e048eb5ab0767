package policy_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/policy"
)

// owner is an authentication policy that lets those pass whose mark it has, all of one consumer.
type owner struct {
	name  string
	marks map[string]*lastuse.Mark
}

func (o *owner) Request(x *exchange.Exchange) policy.Verdict {
	m, ok := o.marks[string(x.Request.Header.Get(o.name))]
	if !ok {
		x.Refuse(refuseWrong)
		return policy.Stop
	}
	x.Principal = &exchange.Principal{Consumer: "alice", ConsumerUID: "alice", Used: m}
	return policy.Next
}

// used are the marks of one part.
type used map[string]*lastuse.Mark

func (used) Parts() int { return 1 }

func (u used) Marks(_ int, yield func(string, *lastuse.Mark) bool) { maps.All(u)(yield) }

func TestAcceptedCredentialsAreNoted(t *testing.T) {
	t.Parallel()
	both, either := [][]string{{"A", "B"}}, [][]string{{"A", "B"}, {"C"}}
	tests := []struct {
		name     string
		branches [][]string
		request  []string
		want     []string
	}{
		{"one", [][]string{{"A"}}, []string{"A: a"}, []string{"a"}},
		{"all of an alternative", both, []string{"A: a", "B: b"}, []string{"a", "b"}},
		{"a refused one", [][]string{{"A"}}, []string{"A: wrong"}, nil},
		{"one beside a refused one", both, []string{"A: a", "B: wrong"}, nil},
		{"one beside a refused one, of another alternative", either, []string{"A: a", "B: wrong", "C: c"}, []string{"c"}},
		{"one of which nobody wants to know", [][]string{{"A"}}, []string{"A: unmarked"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			marks := used{"a": {}, "b": {}, "c": {}}
			known := maps.Clone(marks)
			known["unmarked"] = nil
			var branches [][]policy.Link
			for _, names := range tt.branches {
				var b []policy.Link
				for _, n := range names {
					b = append(b, policy.Link{Policy: &owner{n, known}})
				}
				branches = append(branches, b)
			}
			x := &exchange.Exchange{}
			x.Timings.Received = time.Now()
			for _, l := range tt.request {
				x.Request.Header.Add(exchange.Field(l[:1], l[3:]))
			}
			policy.NewRoute(nil, branches, nil).Request(x)
			var got []string
			for _, u := range lastuse.NewWalk().Take(marks) {
				got = append(got, u.UID)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("noted (-want +got):\n%s", diff)
			}
		})
	}
}
