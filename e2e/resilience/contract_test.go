package resilience_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"keyward.dev/e2e/harness"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

const descriptors = "proto/descriptors/keyward.binpb"

// TestWhatThePreviousReleaseSaysMeansTheSame compares the contract between control plane and gateways, and what is stored,
// with that of the previous release.
func TestWhatThePreviousReleaseSaysMeansTheSame(t *testing.T) {
	t.Parallel()
	now, err := os.ReadFile(filepath.Join("..", "..", descriptors))
	if err != nil {
		t.Fatal(err)
	}
	before := contractOf(t, harness.ReleasedFile(t, strings.TrimSpace(previousRelease), descriptors))
	for _, fault := range faultsOf(before, contractOf(t, now)) {
		t.Error(fault)
	}
}

// TestFaultsOfAContractAreFound holds that the comparison finds something.
func TestFaultsOfAContractAreFound(t *testing.T) {
	t.Parallel()
	field := func(name string, number int32, o *optionsv1.FieldOptions) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()}
		if o != nil {
			f.Options = &descriptorpb.FieldOptions{}
			proto.SetExtension(f.GetOptions(), optionsv1.E_Field, o)
		}
		return f
	}
	with := func(fields ...*descriptorpb.FieldDescriptorProto) contract {
		return contract{fields: map[string]map[int32]*descriptorpb.FieldDescriptorProto{"m": byNumber(fields)}, values: map[string]map[int32]string{}}
	}
	before := with(field("a", 1, nil))
	tests := []struct {
		name string
		now  contract
		want bool
	}{
		{"the same", before, false},
		{"a further field", with(field("a", 1, nil), field("b", 2, nil)), false},
		{"a further field of the control plane's", with(field("a", 1, nil), field("b", 2, &optionsv1.FieldOptions{Default: new("x"), ControlPlane: true})), false},
		{"a further field with a default", with(field("a", 1, nil), field("b", 2, &optionsv1.FieldOptions{Default: new("x")})), true},
		{"a field that is gone", with(), true},
		{"a field of another name", with(field("b", 1, nil)), true},
		{"a message that is gone", contract{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := faultsOf(before, tt.now); (len(got) > 0) != tt.want {
				t.Errorf("faults: %v, want some: %v", got, tt.want)
			}
		})
	}
	was := contract{values: map[string]map[int32]string{"e": {0: "X"}}}
	if got := faultsOf(was, contract{values: map[string]map[int32]string{"e": {0: "Y"}}}); len(got) == 0 {
		t.Error("a value with another meaning is not found")
	}
}

// contract is what messages and enums say, by full name and number.
type contract struct {
	fields map[string]map[int32]*descriptorpb.FieldDescriptorProto
	values map[string]map[int32]string
}

// contractOf reads what is stored and streamed; the admin API and the rules about documents are not part of it.
func contractOf(t *testing.T, set []byte) contract {
	t.Helper()
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &files); err != nil {
		t.Fatal(err)
	}
	c := contract{fields: map[string]map[int32]*descriptorpb.FieldDescriptorProto{}, values: map[string]map[int32]string{}}
	for _, f := range files.GetFile() {
		switch f.GetPackage() {
		case "keyward.config.v1", "keyward.policy.v1", "keyward.credential.v1", "keyward.system.v1", "keyward.sync.v1":
			c.add(f.GetPackage(), f.GetMessageType(), f.GetEnumType())
		}
	}
	if len(c.fields) < 40 || len(c.values) < 5 {
		t.Fatalf("only %d messages and %d enums were read", len(c.fields), len(c.values))
	}
	return c
}

func (c contract) add(prefix string, messages []*descriptorpb.DescriptorProto, enums []*descriptorpb.EnumDescriptorProto) {
	for _, m := range messages {
		name := prefix + "." + m.GetName()
		c.fields[name] = byNumber(m.GetField())
		c.add(name, m.GetNestedType(), m.GetEnumType())
	}
	for _, e := range enums {
		values := map[int32]string{}
		for _, v := range e.GetValue() {
			values[v.GetNumber()] = v.GetName()
		}
		c.values[prefix+"."+e.GetName()] = values
	}
}

func byNumber(fields []*descriptorpb.FieldDescriptorProto) map[int32]*descriptorpb.FieldDescriptorProto {
	out := map[int32]*descriptorpb.FieldDescriptorProto{}
	for _, f := range fields {
		out[f.GetNumber()] = f
	}
	return out
}

// faultsOf says what programs with the one contract would understand wrongly of those with the other.
func faultsOf(before, now contract) (faults []string) {
	for message, fields := range before.fields {
		for number, was := range fields {
			is := now.fields[message][number]
			if is.GetName() != was.GetName() || is.GetType() != was.GetType() || is.GetLabel() != was.GetLabel() || is.GetTypeName() != was.GetTypeName() {
				faults = append(faults, message+"."+was.GetName()+" is gone or another one")
			}
		}
		for number, is := range now.fields[message] {
			o, _ := proto.GetExtension(is.GetOptions(), optionsv1.E_Field).(*optionsv1.FieldOptions)
			if fields[number] == nil && o.GetDefault() != "" && !o.GetControlPlane() {
				faults = append(faults, message+"."+is.GetName()+" is new and has a default: it would be stored with the next write of a "+
					"resource, though nobody asked for it, and close the resource on gateways of the previous release")
			}
		}
	}
	for enum, values := range before.values {
		for number, was := range values {
			if now.values[enum][number] != was {
				faults = append(faults, enum+"."+was+" is gone or another one")
			}
		}
	}
	return faults
}
