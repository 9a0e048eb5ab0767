package admission

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// compileRules compiles the rules of every kind and type up front: a rule that does not compile is found at the start,
// and no request pays for it.
func compileRules(c *catalog.Catalog) (protovalidate.Validator, error) {
	var all []proto.Message
	for _, k := range c.Kinds() {
		all = append(all, k.Type.Zero().Interface())
	}
	for _, p := range c.Policies() {
		all = append(all, p.Config.Zero().Interface())
	}
	for _, t := range c.Credentials() {
		all = append(all, t.Config.Zero().Interface())
	}
	v, err := protovalidate.New(protovalidate.WithMessages(all...), protovalidate.WithDisableLazy())
	if err != nil {
		return nil, fmt.Errorf("protovalidate: %w", err)
	}
	return v, nil
}

// validate checks the rules of the schema, also in configurations, which the rules alone do not enter. What was told
// about a place before is not told again.
func (a *Admitter) validate(m proto.Message, told []problem.Violation) []problem.Violation {
	vs := a.validateOne(m)
	for at, cfg := range configs(m) {
		vs = append(vs, problem.Under(at, a.validateOne(cfg))...)
	}
	return fresh(vs, told)
}

func (a *Admitter) validateOne(m proto.Message) []problem.Violation {
	err := a.rules.Validate(m)
	if err == nil {
		return nil
	}
	broken, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return []problem.Violation{{Reason: "cannot be checked"}}
	}
	vs := make([]problem.Violation, 0, len(broken.Violations))
	for _, v := range broken.Violations {
		vs = append(vs, documentViolation(m.ProtoReflect().Descriptor(), v.Proto))
	}
	return vs
}

// documentViolation writes the path of a broken rule as documents do, where field names are the same but a oneof has
// no name.
func documentViolation(md protoreflect.MessageDescriptor, v *validate.Violation) problem.Violation {
	path := ""
	for _, e := range v.GetField().GetElements() {
		name := protoreflect.Name(e.GetFieldName())
		if choice := md.Oneofs().ByName(name); choice != nil {
			return problem.Violation{Path: path, Reason: "give exactly one of " + alternatives(choice)}
		}
		path = problem.Key(path, e.GetFieldName())
		switch s := e.GetSubscript().(type) {
		case *validate.FieldPathElement_Index:
			path = problem.Index(path, int(s.Index))
		case *validate.FieldPathElement_StringKey:
			path = problem.Key(path, s.StringKey)
		}
		if fd := md.Fields().ByName(name); fd != nil && fd.Message() != nil {
			md = fd.Message()
		}
	}
	return problem.Violation{Path: path, Reason: strings.ReplaceAll(v.GetMessage(), "item(s)", "element(s)")}
}

func alternatives(choice protoreflect.OneofDescriptor) string {
	names := make([]string, choice.Fields().Len())
	for i := range names {
		names[i] = string(choice.Fields().Get(i).Name())
	}
	return strings.Join(names, ", ")
}

// configs yields the configurations in a resource with their paths. One that cannot be read was told by Normalize.
func configs(m proto.Message) func(yield func(string, proto.Message) bool) {
	return func(yield func(string, proto.Message) bool) {
		emit := func(at string, packed *anypb.Any) bool {
			cfg, err := packed.UnmarshalNew()
			return err != nil || yield(at, cfg)
		}
		if c, ok := m.(*configv1.Credential); ok {
			emit("config", c.GetConfig())
			return
		}
		for i, b := range policies(m) {
			if !emit(problem.Index("policies", i)+".config", b.GetConfig()) {
				return
			}
		}
	}
}

// policies returns the bindings of a resource.
func policies(m proto.Message) []*configv1.Binding {
	if o, ok := m.(interface{ GetPolicies() []*configv1.Binding }); ok {
		return o.GetPolicies()
	}
	return nil
}
