// Package descriptors carries the comments of our protos into programs: the generated Go has no source information, and
// the comments are the reference that the OpenAPI document and `keyward explain` show. keyward.binpb is generated:
//
//	buf build --path keyward --exclude-imports --as-file-descriptor-set -o descriptors/keyward.binpb
//
// It must not be used to decode anything; the generated types are for that.
package descriptors

import (
	_ "embed"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

//go:embed keyward.binpb
var raw []byte

// Comments maps the full name of a message, field, enum, enum value, service or method to its comment.
type Comments map[protoreflect.FullName]string

// Load reads the comments.
func Load() (Comments, error) {
	var set descriptorpb.FileDescriptorSet
	// Options are extensions that nobody asks for here.
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("read embedded descriptors: %w", err)
	}
	out := make(Comments)
	for _, file := range set.GetFile() {
		out.addFile(file)
	}
	return out, nil
}

// Of returns the comment of a descriptor as one paragraph per paragraph, without line breaks inside.
func (c Comments) Of(d protoreflect.Descriptor) string { return c[d.FullName()] }

func (c Comments) addFile(file *descriptorpb.FileDescriptorProto) {
	for _, loc := range file.GetSourceCodeInfo().GetLocation() {
		if loc.GetLeadingComments() == "" {
			continue
		}
		if name, ok := nameAt(file, loc.GetPath()); ok {
			c[protoreflect.FullName(file.GetPackage()+"."+name)] = unwrap(loc.GetLeadingComments())
		}
	}
}

// Field numbers of descriptor.proto that paths are made of.
const (
	fileMessage, fileEnum, fileService        = 4, 5, 6
	messageField, messageNested, messageEnums = 2, 3, 4
	enumValue, serviceMethod                  = 2, 2
)

// nameAt resolves a source path to the name below the package. Enum values are named like siblings of their enum.
func nameAt(file *descriptorpb.FileDescriptorProto, path []int32) (string, bool) {
	if len(path) < 2 {
		return "", false
	}
	i, rest := path[1], path[2:]
	switch path[0] {
	case fileMessage:
		return nameInMessage(file.GetMessageType()[i], rest)
	case fileEnum:
		return nameInEnum(file.GetEnumType()[i], rest)
	case fileService:
		s := file.GetService()[i]
		switch {
		case len(rest) == 0:
			return s.GetName(), true
		case len(rest) == 2 && rest[0] == serviceMethod:
			return s.GetName() + "." + s.GetMethod()[rest[1]].GetName(), true
		}
	}
	return "", false
}

func nameInMessage(m *descriptorpb.DescriptorProto, path []int32) (string, bool) {
	if len(path) == 0 {
		return m.GetName(), true
	}
	if len(path) < 2 {
		return "", false
	}
	var inner string
	var ok bool
	switch i, rest := path[1], path[2:]; path[0] {
	case messageField:
		inner, ok = m.GetField()[i].GetName(), len(rest) == 0
	case messageNested:
		inner, ok = nameInMessage(m.GetNestedType()[i], rest)
	case messageEnums:
		inner, ok = nameInEnum(m.GetEnumType()[i], rest)
	}
	return m.GetName() + "." + inner, ok
}

func nameInEnum(e *descriptorpb.EnumDescriptorProto, path []int32) (string, bool) {
	switch {
	case len(path) == 0:
		return e.GetName(), true
	case len(path) == 2 && path[0] == enumValue:
		return e.GetValue()[path[1]].GetName(), true
	default:
		return "", false
	}
}

// unwrap joins the lines of a paragraph; an empty line stays one.
func unwrap(comment string) string {
	var paragraphs []string
	for p := range strings.SplitSeq(strings.TrimSpace(comment), "\n\n") {
		paragraphs = append(paragraphs, strings.Join(strings.Fields(p), " "))
	}
	return strings.Join(paragraphs, "\n\n")
}
