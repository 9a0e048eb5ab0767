// Package record packs a resource into the bytes that are sealed, stored, digested and streamed, and unpacks them. What
// only the control plane uses of a resource goes into a part of its own, which gateways pass over: one that is older than
// such a field is not hindered by it, while it closes what any other field guards that it does not know. What gateways must
// not see goes into a last part, which is stored and neither digested nor streamed. The write path packs; who follows the set
// or its history unpacks. It decides nothing about contents.
package record

import (
	"crypto/rand"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
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
	shown, kept := split(m, (*optionsv1.FieldOptions).GetControlPlane)
	shown, withheld := split(shown, (*optionsv1.FieldOptions).GetWithheld)
	var err error
	if rec.Resource, err = wrap(shown); err != nil {
		return nil, fmt.Errorf("wrap %s %s: %w", kind, name, err)
	}
	if kept != nil {
		if rec.ControlPlane, err = wrap(kept); err != nil {
			return nil, fmt.Errorf("wrap %s %s: %w", kind, name, err)
		}
	}
	last := &syncv1.Record{}
	if withheld != nil {
		if last.Withheld, err = wrap(withheld); err != nil {
			return nil, fmt.Errorf("wrap %s %s: %w", kind, name, err)
		}
		rec.WithheldVersion = make([]byte, 16)
		_, _ = rand.Read(rec.WithheldVersion) // never fails
	}
	packed, err := proto.MarshalOptions{Deterministic: true}.Marshal(rec)
	if err == nil { // one after the other is one message; in this order whatever the library does
		packed, err = proto.MarshalOptions{Deterministic: true}.MarshalAppend(packed, last)
	}
	if err != nil {
		return nil, fmt.Errorf("marshal %s %s: %w", kind, name, err)
	}
	return packed, nil
}

// fieldWithheld is the number of the field of sync.v1.Record with what is not streamed.
const fieldWithheld = 15

// Streamed is the part of a record that is digested and streamed: all but what is withheld from gateways, and what comes after
// it. Of bytes that are no record it answers as many as could be read.
func Streamed(packed []byte) []byte {
	for at := 0; at < len(packed); {
		number, wire, n := protowire.ConsumeTag(packed[at:])
		if n < 0 || number == fieldWithheld {
			return packed[:at:at]
		}
		value := protowire.ConsumeFieldValue(number, wire, packed[at+n:])
		if value < 0 {
			return packed[:at:at]
		}
		at += n + value
	}
	return packed
}

func wrap(m proto.Message) (*anypb.Any, error) {
	a := &anypb.Any{}
	return a, anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true})
}

// split takes the fields out of a message whose options say so, and answers the rest and those, nil if there are none. The
// message itself is not changed.
func split(m proto.Message, private func(*optionsv1.FieldOptions) bool) (rest, part proto.Message) {
	var fields []protoreflect.FieldDescriptor
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if o, ok := proto.GetExtension(f.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions); ok && private(o) {
			fields = append(fields, f)
		}
		return true
	})
	if len(fields) == 0 {
		return m, nil
	}
	left, out := proto.Clone(m).ProtoReflect(), m.ProtoReflect().New()
	for _, f := range fields {
		out.Set(f, left.Get(f))
		left.Clear(f)
	}
	return left.Interface(), out.Interface()
}

// Message unpacks the whole resource.
func Message(rec *syncv1.Record) (proto.Message, error) {
	m, err := rec.GetResource().UnmarshalNew()
	if err != nil {
		return nil, err
	}
	for _, part := range []*anypb.Any{rec.GetControlPlane(), rec.GetWithheld()} {
		if part == nil {
			continue
		}
		if part.MessageName() != m.ProtoReflect().Descriptor().FullName() {
			return nil, errParts
		}
		if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(part.GetValue(), m); err != nil {
			return nil, err
		}
	}
	return m, nil
}
