package adminauth

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// Permissions maps full gRPC method names ("/package.Service/Method") to what their descriptors ask for.
type Permissions map[string]*optionsv1.Permission

// PermissionsOf collects the permissions of all methods of the files. A method without one, or with a group scope but no
// group to read, is an error: better no server than an open one.
func PermissionsOf(files ...protoreflect.FileDescriptor) (Permissions, error) {
	out := make(Permissions)
	for _, file := range files {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				if err := out.add(methods.Get(j)); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

func (p Permissions) add(m protoreflect.MethodDescriptor) error {
	perm, _ := proto.GetExtension(m.Options(), optionsv1.E_Permission).(*optionsv1.Permission)
	if perm.GetRole() == optionsv1.Role_ROLE_UNSPECIFIED || perm.GetScope() == optionsv1.Scope_SCOPE_UNSPECIFIED {
		return fmt.Errorf("method %s declares no permission", m.FullName())
	}
	if perm.GetScope() == optionsv1.Scope_SCOPE_GROUP && !namesGroup(m.Input()) {
		return fmt.Errorf("method %s is about a group, but its request names none", m.FullName())
	}
	p[FullMethod(m)] = perm
	return nil
}

// FullMethod returns the name gRPC gives a method.
func FullMethod(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// namesGroup reports whether groupOf can find a group in messages of that type.
func namesGroup(md protoreflect.MessageDescriptor) bool {
	if isGroup(md.Fields().ByName("group")) {
		return true
	}
	header := md.Fields().ByName("header")
	return header != nil && header.Message() != nil && isGroup(header.Message().Fields().ByName("group"))
}

func isGroup(fd protoreflect.FieldDescriptor) bool {
	return fd != nil && fd.Kind() == protoreflect.StringKind && !fd.IsList()
}

// groupOf returns the group a message is about: its own field `group`, or that of its `header`. ok is false for a message
// that has neither set up, such as a later message of a stream.
func groupOf(msg proto.Message) (group string, ok bool) {
	m := msg.ProtoReflect()
	if fd := m.Descriptor().Fields().ByName("group"); isGroup(fd) {
		return m.Get(fd).String(), true
	}
	header := m.Descriptor().Fields().ByName("header")
	if header == nil || header.Message() == nil || !m.Has(header) {
		return "", false
	}
	fd := header.Message().Fields().ByName("group")
	if !isGroup(fd) {
		return "", false
	}
	return m.Get(header).Message().Get(fd).String(), true
}
