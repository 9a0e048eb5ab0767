package policytest

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Parameters are fields of what policies and credentials are configured by.
type Parameters map[protoreflect.FullName]bool

// set adds those that a message sets, in whatever it contains.
func (p Parameters) set(m protoreflect.Message) {
	if boxed, ok := m.Interface().(*anypb.Any); ok {
		if inside, err := boxed.UnmarshalNew(); err == nil {
			p.set(inside.ProtoReflect())
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if IsParameter(fd) {
			p[fd.FullName()] = true
		}
		switch {
		case fd.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { p.setIn(fd.MapValue(), v); return true })
		case fd.IsList():
			for i := range v.List().Len() {
				p.setIn(fd, v.List().Get(i))
			}
		default:
			p.setIn(fd, v)
		}
		return true
	})
}

func (p Parameters) setIn(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	if fd.Message() != nil {
		p.set(v.Message())
	}
}

// IsParameter reports whether a field is one of a policy's or credential's configuration.
func IsParameter(fd protoreflect.FieldDescriptor) bool {
	pkg := fd.ContainingMessage().ParentFile().Package()
	return pkg == "keyward.policy.v1" || pkg == "keyward.credential.v1"
}
