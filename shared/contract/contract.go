// Package contract numbers what resources can say, release by release. A field or value that a release added says in its
// options which contract brought it; a gateway tells the control plane the newest contract it knows, and the control plane
// warns of what is newer in a change. Nothing is enforced here: what a gateway does not know it finds itself, and closes.
package contract

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// Current is the newest contract of which this program knows every field and value.
func Current() uint32 { return Newest(protoregistry.GlobalFiles) }

// Files are descriptors.
type Files interface {
	RangeFiles(yield func(protoreflect.FileDescriptor) bool)
}

// Newest is the newest contract that fields and values in the files name.
func Newest(files Files) (n uint32) {
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if p := string(f.Package()); strings.HasPrefix(p, "keyward.") && p != "keyward.options.v1" {
			n = max(n, messages(f.Messages()), enums(f.Enums()))
		}
		return true
	})
	return n
}

func messages(ms protoreflect.MessageDescriptors) (n uint32) {
	for i := range ms.Len() {
		fields := ms.Get(i).Fields()
		for j := range fields.Len() {
			n = max(n, since(fields.Get(j)))
		}
		n = max(n, messages(ms.Get(i).Messages()), enums(ms.Get(i).Enums()))
	}
	return n
}

func enums(es protoreflect.EnumDescriptors) (n uint32) {
	for i := range es.Len() {
		values := es.Get(i).Values()
		for j := range values.Len() {
			n = max(n, valueSince(values.Get(j)))
		}
	}
	return n
}

// since is the contract that brought a field; gateways do not look at those that only the control plane uses.
func since(f protoreflect.FieldDescriptor) uint32 {
	o, ok := proto.GetExtension(f.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	if !ok || o.GetControlPlane() || o.GetWithheld() {
		return 0
	}
	return o.GetSince()
}

func valueSince(v protoreflect.EnumValueDescriptor) uint32 {
	n, _ := proto.GetExtension(v.Options(), optionsv1.E_ValueSince).(uint32)
	return n
}

// Newer answers what a resource says that the first contract did not have: its name, such as Settings.path_policy or
// RetryOn.RETRY_ON_RESET, and the contract that brought it.
func Newer(m proto.Message) map[string]uint32 {
	found := finds{}
	found.message(m.ProtoReflect())
	return found
}

type finds map[string]uint32

func (s finds) note(of, what protoreflect.Descriptor, since uint32) {
	if since > 0 {
		s[string(of.Name())+"."+string(what.Name())] = since
	}
}

func (s finds) message(m protoreflect.Message) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		if inner, err := packed.UnmarshalNew(); err == nil {
			s.message(inner.ProtoReflect())
		}
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		s.note(m.Descriptor(), f, since(f))
		s.field(f, v)
		return true
	})
}

func (s finds) field(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.IsMap():
		v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			s.value(f.MapValue(), v)
			return true
		})
	case f.IsList():
		for i := range v.List().Len() {
			s.value(f, v.List().Get(i))
		}
	default:
		s.value(f, v)
	}
}

func (s finds) value(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.Message() != nil:
		s.message(v.Message())
	case f.Enum() != nil:
		if is := f.Enum().Values().ByNumber(v.Enum()); is != nil {
			s.note(f.Enum(), is, valueSince(is))
		}
	}
}
