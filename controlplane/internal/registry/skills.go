package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Unable answers for each of the policy types that some connected gateway does not know the ids of those gateways, in the
// order in which they enrolled. One that is not connected may be another program when it comes back.
func (r *Registry) Unable(ctx context.Context, group string, policyTypes []string) (map[string][]string, error) {
	rows, err := r.cfg.Skills.GatewaysWithout(ctx, group, policyTypes)
	if err != nil {
		return nil, fmt.Errorf("list gateways of group %s by policy types: %w", group, err)
	}
	if len(rows) == 0 {
		return nil, nil // as ever, but in the days of an upgrade
	}
	seen, err := r.seen(ctx, group)
	if err != nil {
		return nil, err
	}
	unable := map[string][]string{}
	for _, g := range rows {
		if _, connected := seen[g.ID]; !connected {
			continue
		}
		for _, policyType := range policyTypes {
			if !slices.Contains(g.PolicyTypes, policyType) {
				unable[policyType] = append(unable[policyType], g.ID)
			}
		}
	}
	return unable, nil
}

// Older answers the ids of the connected gateways that do not know all of a contract.
func (r *Registry) Older(ctx context.Context, group string, contract uint32) ([]string, error) {
	seen, err := r.seen(ctx, group)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(seen, func(_ string, s sighting) bool { return s.Contract >= contract })
	return slices.Sorted(maps.Keys(seen)), nil
}
