package admission_test

import (
	"testing"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// What was read a moment ago may say another time by now: when a credential was used is passed over, and neither stored nor a
// change.
func TestLastUseOfACredentialIsPassedOver(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	document := func(used string) string {
		return "consumers: [{name: alice, credentials: [{name: k, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY}" + used + "}]}]\n"
	}
	g.must(document(`, last_used: "2026-01-02T03:04:05Z"`))
	stored, _ := g.Get("credentials", "alice/k")
	if m, ok := stored.Message.(*configv1.Credential); !ok || m.GetLastUsed() != nil {
		t.Errorf("stored: %v", stored.Message)
	}
	if a := g.must(document(`, last_used: "2026-02-03T04:05:06Z"`)); len(a.Upserts) > 0 {
		t.Errorf("another time of use is a change: %v", summary(a))
	}
}
