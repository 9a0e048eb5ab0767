package check

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// Identifier returns the name by which a credential with this configuration is known, and the field that says it; empty
// for types that are known otherwise.
func Identifier(cfg proto.Message) (field, name string) {
	m := cfg.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions); o.GetIdentifier() && fd.Kind() == protoreflect.StringKind && !fd.IsList() {
			return string(fd.Name()), m.Get(fd).String()
		}
	}
	return "", ""
}
