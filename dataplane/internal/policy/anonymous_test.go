package policy_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
)

func withGuest(present bool) *directory.Directory {
	e := directory.New().Edit()
	if present {
		e.PutConsumer(directory.Consumer{UID: "uid-guest", Name: "guest", Groups: []string{"guests"}})
	}
	return e.Directory()
}

// open returns a chain of alternatives that lets the anonymous in as guest.
func open(names ...[]string) *policy.Chain {
	var branches [][]policy.Link
	for _, branch := range names {
		var b []policy.Link
		for _, n := range branch {
			b = append(b, policy.Link{Binding: policy.Identity{Name: n}, Policy: &proof{name: n}})
		}
		branches = append(branches, b)
	}
	return policy.NewOpenRoute(nil, branches, "guest", nil)
}

func TestAnonymousIsWhoPresentsNothing(t *testing.T) {
	t.Parallel()
	one, both, either := [][]string{{"A"}}, [][]string{{"A", "B"}}, [][]string{{"A"}, {"B", "C"}}
	known, unknown := withGuest(true), withGuest(false)
	tests := []struct {
		name      string
		branches  [][]string
		directory exchange.Directory
		request   []string
		want      int // 0: passes
		who       string
		by        string
	}{
		{"nothing presented", one, known, nil, 0, "guest", ""},
		{"a credential that counts", one, known, []string{"A: x"}, 0, "x", ""},
		{"a credential that is wrong", one, known, []string{"A: wrong"}, 401, "", "A"},
		{"an outage", one, known, []string{"A: outage"}, 503, "", "A"},
		{"nothing presented to several", either, known, nil, 0, "guest", ""},
		{"wrong for one alternative", either, known, []string{"B: wrong"}, 401, "", "A"},
		{"wrong for the second of an alternative", either, known, []string{"C: wrong"}, 401, "", "C"},
		{"an outage of the second of an alternative", either, known, []string{"C: outage"}, 503, "", "C"},
		{"good for the second of an alternative only", either, known, []string{"C: x"}, 401, "", "A"},
		{"one of two", both, known, []string{"A: x"}, 401, "", "B"},
		{"the other of two", both, known, []string{"B: x"}, 401, "", "A"},
		{"one of two is wrong", both, known, []string{"B: wrong"}, 401, "", "B"},
		{"the consumer is not known", one, unknown, nil, 503, "", "A"},
		{"no directory", one, nil, nil, 503, "", "A"},
		{"no directory is needed for a refusal", one, nil, []string{"A: wrong"}, 401, "", "A"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := &exchange.Exchange{Directory: tt.directory}
			for _, l := range tt.request {
				x.Request.Header.Add(exchange.Field(l[:1], l[3:]))
			}
			v := open(tt.branches...).Request(x)
			if (v == policy.Next) != (tt.want == 0) || x.Response.Status != tt.want {
				t.Fatalf("Request() = %v with %d, want status %d", v, x.Response.Status, tt.want)
			}
			if tt.want != 0 {
				if x.Principal != nil || x.StoppedBy.Name != tt.by {
					t.Errorf("stopped by %+v with principal %+v, want by %s without", x.StoppedBy, x.Principal, tt.by)
				}
				return
			}
			p := x.Principal
			if p == nil || p.Consumer != tt.who || x.Refusal() != nil {
				t.Fatalf("principal %+v, refusal %v, want %s", p, x.Refusal(), tt.who)
			}
			if anonymous := tt.who == "guest"; anonymous && (p.Kind != exchange.KindAnonymous || p.How != "anonymous" || p.Groups[0] != "guests" || len(x.Proofs) > 0) {
				t.Errorf("principal %+v with proofs %v, want an anonymous one without", p, x.Proofs)
			}
		})
	}
}

// TestAnonymousFollowsTheDirectory: a chain outlives directories, and the groups of its anonymous consumer change.
func TestAnonymousFollowsTheDirectory(t *testing.T) {
	t.Parallel()
	c, d := open([]string{"A"}), withGuest(true)
	pass := func(d exchange.Directory) *exchange.Principal {
		x := &exchange.Exchange{Directory: d}
		c.Request(x)
		return x.Principal
	}
	first := pass(d)
	if first == nil || pass(d) != first {
		t.Errorf("principals differ within one directory, or there is none: %+v", first)
	}
	e := d.Edit()
	e.PutConsumer(directory.Consumer{UID: "uid-guest", Name: "guest", Groups: []string{"others"}})
	if p := pass(e.Directory()); p == nil || p.Groups[0] != "others" {
		t.Errorf("principal %+v after the groups changed", p)
	}
	e = d.Edit()
	e.RemoveConsumer("guest")
	if p := pass(e.Directory()); p != nil {
		t.Errorf("principal %+v after the consumer is gone", p)
	}
}
