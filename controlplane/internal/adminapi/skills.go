package adminapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/configsvc"
)

// Skills knows what the connected gateways cannot run.
type Skills interface {
	// Unable answers for each of the policy types that some connected gateway does not know the ids of those gateways.
	Unable(ctx context.Context, group string, policyTypes []string) (map[string][]string, error)
}

// maxNamed bounds the gateways that a warning names.
const maxNamed = 10

// unable warns of what connected gateways cannot run of what a request changes, or would change. They are sent it all the
// same: what guards something must not be missing on them, so they close what it guards.
func (s *resources) unable(ctx context.Context, group string, items []configsvc.Item) []problem.Violation {
	needed := policyTypes(items)
	if len(needed) == 0 {
		return nil
	}
	lacking, err := s.skills.Unable(ctx, group, needed)
	if err != nil { // the change itself is made
		return []problem.Violation{{Reason: "whether all connected gateways can run this could not be looked up"}}
	}
	var out []problem.Violation
	for _, policyType := range slices.Sorted(maps.Keys(lacking)) {
		ids := lacking[policyType]
		out = append(out, problem.Violation{Reason: fmt.Sprintf(
			"connected gateways that do not know the policy type %s will answer 503 for what it guards; there are %d: %s",
			policyType, len(ids), named(ids))})
	}
	return out
}

// policyTypes are the types that a gateway must know for what the items leave behind.
func policyTypes(items []configsvc.Item) []string {
	types := map[string]bool{}
	for _, it := range items {
		if it.After == nil {
			continue
		}
		switch m := it.After.Message.(type) {
		case *configv1.Credential:
			types[m.GetType()] = true // the policy of that name checks it
		case interface{ GetPolicies() []*configv1.Binding }:
			for _, b := range m.GetPolicies() {
				if b.Enabled == nil || b.GetEnabled() {
					types[b.GetType()] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(types))
}

func named(ids []string) string {
	if len(ids) <= maxNamed {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:maxNamed], ", "), len(ids)-maxNamed)
}
