// Package record packs a resource into the bytes that are sealed, stored, digested and streamed, and unpacks them. What
// only the control plane uses of a resource goes into a part of its own, which gateways pass over: one that is older than
// such a field is not hindered by it, while it closes what any other field guards that it does not know. The write path
// packs; who follows the set or its history unpacks. It decides nothing about contents.
package record

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

var errParts = errors.New("its parts are of different types")

// Pack is the one marshalling of a resource.
func Pack(kind, uid, name string, m proto.Message) ([]byte, error) {
	rec := &syncv1.Record{Kind: kind, Uid: uid, Name: name}
	shown, kept := split(m)
	var err error
	if rec.Resource, err = wrap(shown); err != nil {
		return nil, fmt.Errorf("wrap %s %s: %w", kind, name, err)
	}
	if kept != nil {
		if rec.ControlPlane, err = wrap(kept); err != nil {
			return nil, fmt.Errorf("wrap %s %s: %w", kind, name, err)
		}
	}
	packed, err := proto.MarshalOptions{Deterministic: true}.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("marshal %s %s: %w", kind, name, err)
	}
	return packed, nil
}

func wrap(m proto.Message) (*anypb.Any, error) {
	a := &anypb.Any{}
	return a, anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true})
}

// split answers what gateways are shown of a resource and what is kept from them, nil if nothing is. The message itself
// is not changed.
func split(m proto.Message) (shown, kept proto.Message) {
	var private []protoreflect.FieldDescriptor
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if o, ok := proto.GetExtension(f.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions); ok && o.GetControlPlane() {
			private = append(private, f)
		}
		return true
	})
	if len(private) == 0 {
		return m, nil
	}
	rest, part := proto.Clone(m).ProtoReflect(), m.ProtoReflect().New()
	for _, f := range private {
		part.Set(f, rest.Get(f))
		rest.Clear(f)
	}
	return rest.Interface(), part.Interface()
}

// Message unpacks the whole resource.
func Message(rec *syncv1.Record) (proto.Message, error) {
	m, err := rec.GetResource().UnmarshalNew()
	if err != nil || rec.GetControlPlane() == nil {
		return m, err
	}
	if rec.GetControlPlane().MessageName() != m.ProtoReflect().Descriptor().FullName() {
		return nil, errParts
	}
	if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(rec.GetControlPlane().GetValue(), m); err != nil {
		return nil, err
	}
	return m, nil
}
