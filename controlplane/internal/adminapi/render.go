package adminapi

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/snapshot"
)

// render returns a stored resource as callers see it: with what the server knows of it and without the values of secrets,
// hashed ones included. What uses it is told only if a view is given to look in.
func render(r *snapshot.Resource, in admission.View) (*anypb.Any, error) {
	if r == nil {
		return nil, nil
	}
	m, err := visible(r, in)
	if err != nil {
		return nil, err
	}
	out, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("wrap %s: %w", r.Kind, err)
	}
	return out, nil
}

func visible(r *snapshot.Resource, in admission.View) (proto.Message, error) {
	if r.Message == nil {
		return nil, problem.Errorf(problem.Internal, "the stored %s cannot be read: %s", catalog.Ref(r.Kind, r.Name), r.Unreadable)
	}
	m := proto.Clone(r.Message)
	if err := hideSecrets(m.ProtoReflect()); err != nil {
		return nil, fmt.Errorf("hide secrets of %s: %w", catalog.Ref(r.Kind, r.Name), err)
	}
	catalog.SetOutput(m, catalog.Output{UID: r.UID, Revision: r.Revision, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt})
	admission.Output(m, in, r)
	return m, nil
}

// hideSecrets replaces every stored secret by the mark that there is one. References stay: they say where, not what.
func hideSecrets(m protoreflect.Message) error {
	switch v := m.Interface().(type) {
	case *configv1.Secret:
		hidden := v.GetRef() == "" && (v.GetSet() || v.GetValue() != nil)
		if hidden {
			v.Value, v.Set = nil, true
		}
		return nil
	case *anypb.Any:
		return hideInAny(v)
	}
	var failed error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		failed = hideInField(fd, v)
		return failed == nil
	})
	return failed
}

func hideInAny(packed *anypb.Any) error {
	inner, err := packed.UnmarshalNew()
	if err != nil {
		return err
	}
	if err := hideSecrets(inner.ProtoReflect()); err != nil {
		return err
	}
	return packed.MarshalFrom(inner)
}

func hideInField(fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() == nil {
			return nil
		}
		var failed error
		v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			failed = hideSecrets(v.Message())
			return failed == nil
		})
		return failed
	case fd.Message() == nil:
		return nil
	case fd.IsList():
		for i := range v.List().Len() {
			if err := hideSecrets(v.List().Get(i).Message()); err != nil {
				return err
			}
		}
		return nil
	default:
		return hideSecrets(v.Message())
	}
}
