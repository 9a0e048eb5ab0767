package compile

import (
	"cmp"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/chain"
	"keyward.dev/shared/secret"
)

// owner builds the policies of a record's bindings and reports those that cannot be built.
func (b *build) owner(r *state.Record, bindings []*configv1.Binding) *runtime.Owner {
	o := &runtime.Owner{Owner: chain.Owner{Kind: r.Kind, UID: r.UID, Name: r.Name, Bindings: bindings}}
	b.noted = nil
	defer func() { b.made(r.Kind, r.UID, b.noted) }()
	if len(bindings) == 0 {
		return o
	}
	o.Built = make([]runtime.Built, len(bindings))
	for i, binding := range bindings {
		if binding.Enabled != nil && !binding.GetEnabled() {
			continue
		}
		link, err := b.binding(o, binding)
		if err != nil {
			o.Built[i].Fault = err.Error()
			b.fault(r, fmt.Sprintf("policy %s: %v", binding.GetType(), err))
			continue
		}
		o.Built[i].Link = link
	}
	return o
}

func (b *build) binding(o *runtime.Owner, binding *configv1.Binding) (policy.Link, error) {
	f, ok := b.factories[binding.GetType()]
	if !ok {
		return policy.Link{}, fmt.Errorf("this gateway does not know the policy type")
	}
	link := policy.Link{Binding: policy.Identity{
		Type: binding.GetType(), Name: cmp.Or(binding.GetName(), binding.GetType()),
		OwnerKind: o.Kind, OwnerUID: o.UID, OwnerName: o.Name,
	}}
	switch binding.GetMode() {
	case configv1.Mode_MODE_UNSPECIFIED, configv1.Mode_MODE_ENFORCE:
	case configv1.Mode_MODE_REPORT:
		link.Report = true
	default:
		return policy.Link{}, fmt.Errorf("this gateway does not know the mode")
	}
	packed, sharing := binding.GetConfig(), b.rt.Sharing
	build := func() (policy.Policy, error) { return b.built(f, packed, link.Binding) }
	var err error
	if follows(f, packed) && sharing.Shares(packed.GetValue()) {
		link.Shared = true
		link.Policy, err = sharing.Policy(f.Type, packed.GetValue(), build)
	} else {
		link.Shared = o.Kind == kindSettings // by all routes
		link.Policy, err = build()
	}
	if err != nil {
		return policy.Link{}, err
	}
	return link, nil
}

// follows says whether the policy follows from the bytes of its config.
func follows(f factory, packed *anypb.Any) bool {
	return f.Pure && packed.MessageName() == f.Message && !secret.MayRefer(packed.GetValue())
}

// built builds a policy from its packed config.
func (b *build) built(f factory, packed *anypb.Any, id policy.Identity) (policy.Policy, error) {
	cfg, err := config(f, packed)
	if err != nil {
		return nil, err
	}
	cfg, refs, reason := b.clear(packed, cfg)
	b.noted = append(b.noted, refs...)
	if reason != "" {
		return nil, errors.New(reason)
	}
	return b.construct(f, cfg, policy.Deps{Binding: id, Host: b.deps.Host, Group: group{b}, Log: b.deps.Log})
}

// construct calls the factory. A factory that panics has not built anything.
func (b *build) construct(f factory, cfg proto.Message, d policy.Deps) (p policy.Policy, err error) {
	defer func() {
		if v := recover(); v != nil {
			p, err = nil, fmt.Errorf("building it failed unexpectedly")
			b.deps.Log.Error("policy factory panicked", "policy", f.Type, "owner_uid", d.Binding.OwnerUID)
		}
	}()
	return f.Build(cfg, d)
}

func config(f factory, a *anypb.Any) (proto.Message, error) {
	if a == nil {
		return nil, fmt.Errorf("it has no config")
	}
	if a.MessageName() != f.Message {
		return nil, fmt.Errorf("its config is of another type")
	}
	m, newer, err := state.Unpack(a)
	if err != nil {
		return nil, fmt.Errorf("its config does not parse")
	}
	if newer {
		return nil, fmt.Errorf("its config has fields or values that this gateway does not know")
	}
	return m, nil
}

// ownFaults reports what the chain finds wrong with bindings of this owner, wherever else they would be used.
func (b *build) ownFaults(r *state.Record, in chain.Input) {
	c := chain.Effective(b.lookup, in)
	for i := range c.Links {
		if l := &c.Links[i]; l.Fault != "" && l.OwnerUID == r.UID && b.factories[l.Type].options != nil {
			b.fault(r, fmt.Sprintf("policy %s: %s", l.Type, l.Fault))
		}
	}
}

// early reports whether links of the phase run before the caller is known.
func early(p optionsv1.Phase) bool { return p <= optionsv1.Phase_PHASE_AUTHN }

func isAuthn(l *chain.Link) bool { return l.Phase == optionsv1.Phase_PHASE_AUTHN }
