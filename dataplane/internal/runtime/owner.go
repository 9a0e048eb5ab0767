package runtime

import (
	"fmt"

	"keyward.dev/dataplane/internal/policy"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/chain"
)

// Owner is a resource with bindings whose policies are built. Everything that the owner applies to shares them.
type Owner struct {
	chain.Owner
	// Closed says why the owner's bindings are not known; empty if they are.
	Closed string
	// Policies are the built policies of the bindings that are not off; Faults why others could not be built.
	Policies map[*configv1.Binding]policy.Link
	Faults   map[*configv1.Binding]string
}

func (o *Owner) chain() *chain.Owner {
	if o == nil {
		return nil
	}
	return &o.Owner
}

// Built returns the built policy of a link, or why there is none.
func Built(owners []*Owner, l *chain.Link) (policy.Link, string) {
	for _, o := range owners {
		if o == nil {
			continue
		}
		if link, ok := o.Policies[l.Binding]; ok {
			return link, ""
		}
		if fault, ok := o.Faults[l.Binding]; ok {
			return policy.Link{}, fmt.Sprintf("policy %s of %s %s: %s", l.Type, l.OwnerKind, l.OwnerName, fault)
		}
	}
	return policy.Link{}, fmt.Sprintf("policy %s of %s %s was not built", l.Type, l.OwnerKind, l.OwnerName)
}

// Consumer is who calls.
type Consumer struct {
	UID, Name string
	Groups    []string
	// Owner holds its own bindings; nil if it has none.
	Owner *Owner
	// Profile is what applies to it beside what applies to everybody; nil if nothing does.
	Profile *Profile
}

// Profile is what applies to a caller: the bindings of its groups in its order, and its own.
type Profile struct {
	Groups   []*Owner
	Consumer *Owner
	Closed   string // why that is not known
}
