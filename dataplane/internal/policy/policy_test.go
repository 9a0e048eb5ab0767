package policy_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

type pass struct{}

func (pass) Request(*exchange.Exchange) policy.Verdict { return policy.Next }

func TestOfTakesTypeAndPhaseFromTheMessage(t *testing.T) {
	t.Parallel()
	f := policy.Of(func(*policyv1.Acl, policy.Deps) (policy.Policy, error) { return pass{}, nil })
	if f.Type != "acl" || f.Phase != optionsv1.Phase_PHASE_AUTHZ || f.Message != "keyward.policy.v1.Acl" {
		t.Errorf("Of() = %+v", f)
	}
	if _, err := f.Build(&policyv1.Acl{}, policy.Deps{}); err != nil {
		t.Errorf("Build() = %v", err)
	}
}

func TestOfPanicsForAMessageThatIsNoPolicy(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	policy.Of(func(*policyv1.AclRule, policy.Deps) (policy.Policy, error) { return pass{}, nil })
}

func TestTheZeroVerdictStops(t *testing.T) {
	t.Parallel()
	var v policy.Verdict
	if v != policy.Stop {
		t.Error("a verdict that nobody set lets requests through")
	}
}
