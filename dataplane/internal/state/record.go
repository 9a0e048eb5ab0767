package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// open reads a record's bytes. An error means that the bytes are not what the frames said, so the whole change is in
// doubt; a resource this program does not understand is a record that is Unreadable.
func open(kind, uid string, b []byte) (*Record, error) {
	var env syncv1.Record
	if err := proto.Unmarshal(b, &env); err != nil {
		return nil, fmt.Errorf("record %s %s does not parse", kind, uid)
	}
	if env.GetKind() != kind || env.GetUid() != uid || env.GetName() == "" {
		return nil, fmt.Errorf("record %s %s is another one inside", kind, uid)
	}
	r := &Record{Kind: kind, UID: uid, Name: env.GetName(), Bytes: b}
	m, reason := decode(kind, env.GetResource())
	r.Message, r.Unreadable = m, reason
	return r, nil
}

func decode(kind string, a *anypb.Any) (proto.Message, string) {
	m, err := anypb.UnmarshalNew(a, proto.UnmarshalOptions{})
	if err != nil {
		// An error would quote the type's name as received.
		return nil, "its type is unknown to this gateway or it does not parse"
	}
	o, ok := proto.GetExtension(m.ProtoReflect().Descriptor().Options(), optionsv1.E_Resource).(*optionsv1.ResourceOptions)
	if ok && o.GetKind() != "" && o.GetKind() != kind {
		return nil, "its type is of another kind"
	}
	if hasUnknown(m.ProtoReflect()) {
		return nil, "it has fields that this gateway does not know"
	}
	return m, ""
}

// hasUnknown finds fields that a newer control plane set: to run without them could be to run without a protection.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() == nil {
				break
			}
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				found = hasUnknown(v.Message())
				return !found
			})
		case f.Message() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				found = hasUnknown(v.List().Get(i).Message())
			}
		default:
			found = hasUnknown(v.Message())
		}
		return !found
	})
	return found
}
