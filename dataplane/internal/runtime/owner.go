package runtime

import (
	"fmt"
	"slices"

	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/shared/check/chain"
)

// Owner is a resource with bindings whose policies are built. Everything that the owner applies to shares them.
type Owner struct {
	chain.Owner
	// Closed says why the owner's bindings are not known; empty if they are.
	Closed string
	// Built is what became of each of Bindings, in their order.
	Built []Built
	// Early belongs to package compile: it is that of the routes that add nothing to what this owner and the settings say, which
	// EarlyFor were; nil before a route needed it.
	Early    *Early
	EarlyFor *Owner
}

// Built is what became of a binding: a link, or why there is none. Neither for a binding that is off.
type Built struct {
	Link  policy.Link
	Fault string
}

// Broken reports whether a binding could not be built.
func (o *Owner) Broken() bool {
	return slices.ContainsFunc(o.Built, func(b Built) bool { return b.Fault != "" })
}

func (o *Owner) chain() *chain.Owner {
	if o == nil {
		return nil
	}
	return &o.Owner
}

// LinkOf returns the built policy of a link, or why there is none.
func LinkOf(owners []*Owner, l *chain.Link) (policy.Link, string) {
	for _, o := range owners {
		if o == nil {
			continue
		}
		i := slices.Index(o.Bindings, l.Binding)
		if i < 0 || i >= len(o.Built) {
			continue
		}
		switch b := o.Built[i]; {
		case b.Fault != "":
			return policy.Link{}, fmt.Sprintf("policy %s of %s %s: %s", l.Type, l.OwnerKind, l.OwnerName, b.Fault)
		case b.Link.Policy != nil:
			return b.Link, ""
		}
	}
	return policy.Link{}, fmt.Sprintf("policy %s of %s %s was not built", l.Type, l.OwnerKind, l.OwnerName)
}

// Consumer is who calls.
type Consumer struct {
	UID, Name string
	Groups    []string
	// Standing is that of its groups, nil if it has bindings of its own.
	Standing *Standing
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
