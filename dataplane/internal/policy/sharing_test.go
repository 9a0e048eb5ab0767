package policy_test

import (
	"errors"
	"fmt"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
)

// refuser refuses what a policy refuses.
type refuser struct{ calls int }

func (r *refuser) Request(x *exchange.Exchange) policy.Verdict {
	r.calls++
	x.Refuse(exchange.NewRefusal(403, "forbidden", "No."))
	return policy.Stop
}

func build(p policy.Policy) func() (policy.Policy, error) {
	return func() (policy.Policy, error) { return p, nil }
}

func TestPoliciesAreSharedByTypeAndConfiguration(t *testing.T) {
	t.Parallel()
	s := policy.NewSharing(nil)
	get := func(typ, config string, fresh policy.Policy) policy.Policy {
		p, err := s.Policy(typ, []byte(config), build(fresh))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := get("acl", "a", &refuser{})
	if get("acl", "a", &refuser{}) != first {
		t.Error("the same configuration makes another policy")
	}
	if get("acl", "b", &refuser{}) == first || get("cors", "a", &refuser{}) == first {
		t.Error("another configuration or type gets the same policy")
	}
	broken := errors.New("broken")
	if _, err := s.Policy("acl", []byte("c"), func() (policy.Policy, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	if get("acl", "c", first) != first {
		t.Error("what could not be built is not built again")
	}
	for i := range 5000 { // far more than are kept
		if own := (&refuser{}); get("acl", fmt.Sprint(i), own) != own {
			t.Fatalf("configuration %d has the policy of another one", i)
		}
	}
}

// TestChainsThatShareWhatTheyDoKeepTheirNames runs chains over the same policies: each says whose binding has refused.
func TestChainsThatShareWhatTheyDoKeepTheirNames(t *testing.T) {
	t.Parallel()
	s, shared := policy.NewSharing(nil), &refuser{}
	chain := func(owner string, report, common bool, p policy.Policy) policy.Chain {
		return s.Overlay([]policy.Link{{Binding: policy.Identity{OwnerName: owner}, Report: report, Shared: common, Policy: p}})
	}
	type result struct {
		verdict policy.Verdict
		by      string
		reports int
	}
	run := func(c policy.Chain) (r result) {
		x := &exchange.Exchange{}
		if r.verdict = c.Request(x); r.verdict == policy.Stop {
			r.by = x.StoppedBy.OwnerName
		} else if r.reports = len(x.Reports); r.reports > 0 {
			r.by = x.Reports[0].By.OwnerName
		}
		return r
	}
	chains := []policy.Chain{
		chain("one", false, true, shared), chain("two", false, true, shared), chain("three", true, true, shared), chain("four", true, true, shared),
		chain("five", false, false, shared), s.Overlay(nil),
	}
	want := []result{{by: "one"}, {by: "two"}, {policy.Next, "three", 1}, {policy.Next, "four", 1}, {by: "five"}, {verdict: policy.Next}}
	for range 2 {
		for i := range chains {
			if got := run(chains[i]); got != want[i] {
				t.Errorf("chain %d: %+v, want %+v", i, got, want[i])
			}
		}
	}
	if shared.calls != 10 {
		t.Errorf("the policy was called %d times, want 10", shared.calls)
	}
	for i := range 5000 {
		own := &refuser{}
		if got := run(chain(fmt.Sprint(i), false, true, own)); got.by != fmt.Sprint(i) || own.calls != 1 {
			t.Fatalf("chain %d: %+v, its policy was called %d times", i, got, own.calls)
		}
	}
}

// byValue is a policy that cannot be compared.
type byValue struct{ list []int }

func (byValue) Request(*exchange.Exchange) policy.Verdict { return policy.Next }

func TestPoliciesThatAreNoPointersAreNotShared(t *testing.T) {
	t.Parallel()
	s := policy.NewSharing(nil)
	for range 2 {
		c := s.Overlay([]policy.Link{{Shared: true, Policy: byValue{list: []int{1}}}})
		if v := c.Request(&exchange.Exchange{}); v != policy.Next {
			t.Errorf("the verdict is %v", v)
		}
	}
}

// TestSharedChainsTakeNoMemoryForWhatTheyDo holds that the second chain over the same policies makes its names and nothing else.
func TestSharedChainsTakeNoMemoryForWhatTheyDo(t *testing.T) {
	s, shared := policy.NewSharing(nil), &refuser{}
	links := []policy.Link{{Shared: true, Policy: shared}, {Shared: true, Policy: shared}}
	s.Overlay(links)
	if n := testing.AllocsPerRun(100, func() { s.Overlay(links) }); n > 2 {
		t.Errorf("it allocates %v times, want at most 2", n)
	}
}
