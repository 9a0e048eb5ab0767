package adminapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/configsvc"
)

// Skills knows what the connected gateways cannot run.
type Skills interface {
	// Unable answers for each of the policy types that some connected gateway does not know the ids of those gateways.
	Unable(ctx context.Context, group string, policyTypes []string) (map[string][]string, error)
	// Older answers the ids of the connected gateways that do not know all of a contract.
	Older(ctx context.Context, group string, contract uint32) ([]string, error)
}

// maxNamed bounds the gateways that a warning names.
const maxNamed = 10

// unable warns of what connected gateways cannot run of what a request changes, or would change. They are sent it all the
// same: what guards something must not be missing on them, so they close what it guards.
func (s *resources) unable(ctx context.Context, group string, items []configsvc.Item) []problem.Violation {
	out, err := s.unknownTypes(ctx, group, policyTypes(items))
	if err == nil {
		var fields []problem.Violation
		fields, err = s.unknownFields(ctx, group, newer(items, s.newer))
		out = append(out, fields...)
	}
	if err != nil { // the change itself is made
		return []problem.Violation{{Reason: "whether all connected gateways can run this could not be looked up"}}
	}
	return out
}

func (s *resources) unknownTypes(ctx context.Context, group string, needed []string) (out []problem.Violation, err error) {
	if len(needed) == 0 {
		return nil, nil
	}
	lacking, err := s.skills.Unable(ctx, group, needed)
	for _, policyType := range slices.Sorted(maps.Keys(lacking)) {
		out = append(out, unknown("policy type "+policyType, lacking[policyType]))
	}
	return out, err
}

func (s *resources) unknownFields(ctx context.Context, group string, needed map[string]uint32) (out []problem.Violation, err error) {
	older := map[uint32][]string{}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		since := needed[name]
		if _, known := older[since]; !known {
			if older[since], err = s.skills.Older(ctx, group, since); err != nil {
				return nil, err
			}
		}
		if len(older[since]) > 0 {
			out = append(out, unknown("field or value "+name, older[since]))
		}
	}
	return out, nil
}

func unknown(what string, ids []string) problem.Violation {
	return problem.Violation{Reason: fmt.Sprintf(
		"connected gateways that do not know the %s will answer 503 for what it guards; there are %d: %s", what, len(ids), named(ids))}
}

// newer is what the items leave behind that the first contract did not have.
func newer(items []configsvc.Item, of func(proto.Message) map[string]uint32) map[string]uint32 {
	if of == nil {
		return nil
	}
	found := map[string]uint32{}
	for _, it := range items {
		if it.After != nil {
			maps.Copy(found, of(it.After.Message))
		}
	}
	return found
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
