package contract_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/contract"
)

func field(name string, number int32, t descriptorpb.FieldDescriptorProto_Type, typeName string, o *optionsv1.FieldOptions) *descriptorpb.FieldDescriptorProto {
	f := &descriptorpb.FieldDescriptorProto{
		Name: &name, Number: &number, Type: &t, Options: &descriptorpb.FieldOptions{},
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	if typeName != "" {
		f.TypeName = &typeName
	}
	proto.SetExtension(f.GetOptions(), optionsv1.E_Field, o)
	return f
}

// grown is a message Thing that contracts 1 to 4 added to.
func grown(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	const (
		text, message, enum = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, descriptorpb.FieldDescriptorProto_TYPE_ENUM
	)
	list := field("things", 4, message, ".keyward.test.Thing", &optionsv1.FieldOptions{})
	list.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	later := &descriptorpb.EnumValueOptions{}
	proto.SetExtension(later, optionsv1.E_ValueSince, uint32(3))
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("test.proto"), Package: new("keyward.test"), Syntax: new("proto3"), Dependency: []string{"google/protobuf/any.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Thing"), Field: []*descriptorpb.FieldDescriptorProto{
			field("first", 1, text, "", &optionsv1.FieldOptions{}),
			field("second", 2, text, "", &optionsv1.FieldOptions{Since: 2}),
			field("private", 3, text, "", &optionsv1.FieldOptions{Since: 4, ControlPlane: true}),
			list,
			field("colour", 5, enum, ".keyward.test.Colour", &optionsv1.FieldOptions{}),
			field("packed", 6, message, ".google.protobuf.Any", &optionsv1.FieldOptions{Since: 1}),
		}}},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: new("Colour"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: new("RED"), Number: new(int32(0))}, {Name: new("BLUE"), Number: new(int32(1)), Options: later},
		}}},
	}, registry{anypb.File_google_protobuf_any_proto})
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

// registry finds one file.
type registry struct{ file protoreflect.FileDescriptor }

func (r registry) FindFileByPath(string) (protoreflect.FileDescriptor, error) { return r.file, nil }

func (r registry) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return r.file.Messages().ByName(name.Name()), nil
}

func (r registry) RangeFiles(yield func(protoreflect.FileDescriptor) bool) { yield(r.file) }

func TestNewerFindsWhatWasAdded(t *testing.T) {
	t.Parallel()
	thing := grown(t)
	of := func(name protoreflect.Name) protoreflect.FieldDescriptor { return thing.Fields().ByName(name) }
	plain, err := anypb.New(&configv1.Service{Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		fill func(*dynamicpb.Message)
		want map[string]uint32
	}{
		{"nothing", func(*dynamicpb.Message) {}, nil},
		{"what was there", func(m *dynamicpb.Message) { m.Set(of("first"), protoreflect.ValueOf("x")) }, nil},
		{"a field", func(m *dynamicpb.Message) { m.Set(of("second"), protoreflect.ValueOf("x")) }, map[string]uint32{"Thing.second": 2}},
		{"a field of the control plane's", func(m *dynamicpb.Message) { m.Set(of("private"), protoreflect.ValueOf("x")) }, nil},
		{"a value", func(m *dynamicpb.Message) { m.Set(of("colour"), protoreflect.ValueOfEnum(1)) }, map[string]uint32{"Colour.BLUE": 3}},
		{"a value that nobody knows", func(m *dynamicpb.Message) { m.Set(of("colour"), protoreflect.ValueOfEnum(7)) }, nil},
		{"a message", func(m *dynamicpb.Message) {
			m.Set(of("packed"), protoreflect.ValueOfMessage(plain.ProtoReflect()))
		}, map[string]uint32{"Thing.packed": 1}},
		{"further in", func(m *dynamicpb.Message) {
			inner := dynamicpb.NewMessage(thing)
			inner.Set(of("second"), protoreflect.ValueOf("x"))
			m.Mutable(of("things")).List().Append(protoreflect.ValueOfMessage(inner))
		}, map[string]uint32{"Thing.second": 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := dynamicpb.NewMessage(thing)
			tt.fill(m)
			got := contract.Newer(m)
			if len(tt.want)+len(got) > 0 && !cmp.Equal(tt.want, got) {
				t.Errorf("Newer = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	if got := contract.Newest(registry{grown(t).ParentFile()}); got != 3 {
		t.Errorf("Newest = %d, want that of BLUE, 3: a private field does not count", got)
	}
	if got := contract.Newest(registry{anypb.File_google_protobuf_any_proto}); got != 0 {
		t.Errorf("Newest of a file of somebody else's = %d", got)
	}
}
