package catalog

import (
	"iter"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"
)

// Reference is a place in a resource that names another one.
type Reference struct {
	// Path of the place, e.g. `policies[0].config.allow_consumers[1]`.
	Path string
	// Kind and Name of what is referred to.
	Kind, Name string
}

// authorities is the kind for whose names places can stand.
const authorities = "ca-certificates"

// References yields what a resource refers to, as the schema declares it, also inside policy and credential
// configurations. Configurations that cannot be read are passed over.
func References(m proto.Message) iter.Seq[Reference] {
	return func(yield func(Reference) bool) { referencesOf(m.ProtoReflect(), "", yield) }
}

func referencesOf(m protoreflect.Message, path string, yield func(Reference) bool) bool {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		return err != nil || referencesOf(inner.ProtoReflect(), path, yield)
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.IsMap() || !m.Has(fd) {
			continue // no map holds references; a descriptor test holds that
		}
		if !referencesIn(fd, m.Get(fd), problem.Key(path, string(fd.Name())), yield) {
			return false
		}
	}
	return true
}

func referencesIn(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string, yield func(Reference) bool) bool {
	if !fd.IsList() {
		return referenceAt(fd, v, path, yield)
	}
	for i := range v.List().Len() {
		if !referenceAt(fd, v.List().Get(i), problem.Index(path, i), yield) {
			return false
		}
	}
	return true
}

func referenceAt(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string, yield func(Reference) bool) bool {
	o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	switch {
	case o.GetReference() == authorities && strings.ContainsAny(v.String(), ":/{"):
		return true // a place, such as a file on the gateways; package check says which may be
	case o.GetReference() != "":
		return yield(Reference{Path: path, Kind: o.GetReference(), Name: v.String()})
	case fd.Message() != nil:
		return referencesOf(v.Message(), path, yield)
	default:
		return true
	}
}
