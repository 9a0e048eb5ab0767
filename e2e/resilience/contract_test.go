package resilience_test

import (
	"fmt"
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
		return contract{fields: map[string]map[int32]*descriptorpb.FieldDescriptorProto{"m": byNumber(fields)}}
	}
	value := func(name string, number int32, since uint32) *descriptorpb.EnumValueDescriptorProto {
		v := &descriptorpb.EnumValueDescriptorProto{Name: &name, Number: &number, Options: &descriptorpb.EnumValueOptions{}}
		proto.SetExtension(v.GetOptions(), optionsv1.E_ValueSince, since)
		return v
	}
	values := func(vs ...*descriptorpb.EnumValueDescriptorProto) contract {
		c := contract{values: map[string]map[int32]*descriptorpb.EnumValueDescriptorProto{}}
		c.add("p", nil, []*descriptorpb.EnumDescriptorProto{{Name: new("e"), Value: vs}})
		return c
	}
	a, red := field("a", 1, &optionsv1.FieldOptions{Since: 4}), value("RED", 0, 4)
	tests := []struct {
		name        string
		before, now contract
		want        bool
	}{
		{"the same", with(a), with(a), false},
		{"a further field", with(a), with(a, field("b", 2, &optionsv1.FieldOptions{Since: 5})), false},
		{"a further field of no contract", with(a), with(a, field("b", 2, nil)), true},
		{"a further field of the contract before", with(a), with(a, field("b", 2, &optionsv1.FieldOptions{Since: 4})), true},
		{"a further field of the control plane's", with(a), with(a, field("b", 2, &optionsv1.FieldOptions{Default: new("x"), ControlPlane: true})), false},
		{"a further field with a default", with(a), with(a, field("b", 2, &optionsv1.FieldOptions{Default: new("x"), Since: 5})), true},
		{"a field that is gone", with(a), with(), true},
		{"a field of another name", with(a), with(field("b", 1, nil)), true},
		{"a message that is gone", with(a), contract{}, true},
		{"a further value", values(red), values(red, value("BLUE", 1, 5)), false},
		{"a further value of no contract", values(red), values(red, value("BLUE", 1, 0)), true},
		{"a value with another meaning", values(red), values(value("BLUE", 0, 4)), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := faultsOf(tt.before, tt.now); (len(got) > 0) != tt.want {
				t.Errorf("faults: %v, want some: %v", got, tt.want)
			}
		})
	}
}

// contract is what messages and enums say, by full name and number.
type contract struct {
	fields map[string]map[int32]*descriptorpb.FieldDescriptorProto
	values map[string]map[int32]*descriptorpb.EnumValueDescriptorProto
}

func optionsOf(f *descriptorpb.FieldDescriptorProto) *optionsv1.FieldOptions {
	o, _ := proto.GetExtension(f.GetOptions(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	return o
}

func sinceOf(v *descriptorpb.EnumValueDescriptorProto) uint32 {
	n, _ := proto.GetExtension(v.GetOptions(), optionsv1.E_ValueSince).(uint32)
	return n
}

// newest is the number of the contract.
func (c contract) newest() (n uint32) {
	for _, fields := range c.fields {
		for _, f := range fields {
			n = max(n, optionsOf(f).GetSince())
		}
	}
	for _, values := range c.values {
		for _, v := range values {
			n = max(n, sinceOf(v))
		}
	}
	return n
}

// contractOf reads what is stored and streamed; the admin API and the rules about documents are not part of it.
func contractOf(t *testing.T, set []byte) contract {
	t.Helper()
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &files); err != nil {
		t.Fatal(err)
	}
	c := contract{fields: map[string]map[int32]*descriptorpb.FieldDescriptorProto{}, values: map[string]map[int32]*descriptorpb.EnumValueDescriptorProto{}}
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
		values := map[int32]*descriptorpb.EnumValueDescriptorProto{}
		for _, v := range e.GetValue() {
			values[v.GetNumber()] = v
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
	next := before.newest() + 1
	for message, fields := range before.fields {
		for number, was := range fields {
			is := now.fields[message][number]
			if is.GetName() != was.GetName() || is.GetType() != was.GetType() || is.GetLabel() != was.GetLabel() || is.GetTypeName() != was.GetTypeName() {
				faults = append(faults, message+"."+was.GetName()+" is gone or another one")
			}
		}
		if strings.HasPrefix(message, "keyward.sync.") {
			continue // programs pass over what they do not know there
		}
		for number, is := range now.fields[message] {
			if fields[number] == nil {
				faults = append(faults, faultsOfNew(message+"."+is.GetName(), optionsOf(is), next)...)
			}
		}
	}
	for enum, values := range before.values {
		for number, was := range values {
			if now.values[enum][number].GetName() != was.GetName() {
				faults = append(faults, enum+"."+was.GetName()+" is gone or another one")
			}
		}
		for number, is := range now.values[enum] {
			if values[number] == nil && sinceOf(is) != next {
				faults = append(faults, fmt.Sprintf("%s.%s is new: it needs the option value_since = %d", enum, is.GetName(), next))
			}
		}
	}
	return faults
}

func faultsOfNew(name string, o *optionsv1.FieldOptions, next uint32) (faults []string) {
	if o.GetControlPlane() || o.GetWithheld() || o.GetOutputOnly() {
		return nil
	}
	if o.GetDefault() != "" {
		faults = append(faults, name+" is new and has a default: it would be stored with the next write of a resource, though "+
			"nobody asked for it, and close the resource on gateways of the previous release")
	}
	if o.GetSince() != next {
		faults = append(faults, fmt.Sprintf("%s is new: it needs the option since: %d, or control_plane", name, next))
	}
	return faults
}
