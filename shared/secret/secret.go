// Package secret finds the secrets inside configuration messages. Secrecy is a type, keyward.config.v1.Secret, so there
// is nothing to list and nothing to forget: one walk finds them all, also inside policy and credential configurations.
// It does no cryptography and no I/O. Admission, the admin API's answers and logging use it.
package secret

import (
	"fmt"
	"log/slog"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"
)

// Field is one place of a message that can hold a secret, whether it does or not.
type Field struct {
	// Path is the place in the document, e.g. `config.key`.
	Path string
	// ID is the place with list elements named by their key instead of their index, so that it is the same in two
	// versions of a resource even if elements were moved.
	ID string
	// Storage says how the secret is kept.
	Storage optionsv1.Storage

	get func() *configv1.Secret
	set func(*configv1.Secret)
}

// Get returns the secret in the message, nil if it is left out.
func (f Field) Get() *configv1.Secret { return f.get() }

// Set replaces the secret in the message; nil removes it.
func (f Field) Set(s *configv1.Secret) { f.set(s) }

// Walk calls fn for every place of a message that can hold a secret: set or not, in the order of the schema, also inside
// configurations that are packed in an Any, which are packed again if fn changed them. It fails if such a configuration
// cannot be read; there could be secrets in it that nobody sees.
func Walk(m proto.Message, fn func(Field)) error {
	return walk(m.ProtoReflect(), place{}, fn)
}

// place is a path in both its forms.
type place struct{ path, id string }

func (p place) key(name string) place {
	return place{problem.Key(p.path, name), problem.Key(p.id, name)}
}

func walk(m protoreflect.Message, at place, fn func(Field)) error {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		return walkAny(packed, at, fn)
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Message() == nil {
			continue
		}
		if err := walkField(m, fd, at.key(string(fd.Name())), fn); err != nil {
			return err
		}
	}
	return nil
}

func walkField(m protoreflect.Message, fd protoreflect.FieldDescriptor, at place, fn func(Field)) error {
	switch {
	case fd.IsMap():
		return walkMap(m, fd, at, fn)
	case fd.IsList():
		list := m.Get(fd).List()
		for i := range list.Len() {
			e := list.Get(i).Message()
			inner := place{problem.Index(at.path, i), elementID(at.id, fd, e, i)}
			if err := visit(e, fd, inner, fn, func(s *configv1.Secret) { list.Set(i, protoreflect.ValueOfMessage(s.ProtoReflect())) }); err != nil {
				return err
			}
		}
	case isSecret(fd.Message()):
		fn(Field{
			Path: at.path, ID: at.id, Storage: StorageOf(fd),
			get: func() *configv1.Secret { return present(m, fd) },
			set: func(s *configv1.Secret) {
				if s == nil {
					m.Clear(fd)
					return
				}
				m.Set(fd, protoreflect.ValueOfMessage(s.ProtoReflect()))
			},
		})
	case m.Has(fd):
		return walk(m.Mutable(fd).Message(), at, fn)
	}
	return nil
}

func walkMap(m protoreflect.Message, fd protoreflect.FieldDescriptor, at place, fn func(Field)) error {
	if fd.MapValue().Message() == nil {
		return nil
	}
	entries := m.Get(fd).Map()
	keys := make([]string, 0, entries.Len())
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, k := range keys {
		mk := protoreflect.ValueOfString(k).MapKey()
		set := func(s *configv1.Secret) { entries.Set(mk, protoreflect.ValueOfMessage(s.ProtoReflect())) }
		if err := visit(entries.Get(mk).Message(), fd, at.key(k), fn, set); err != nil {
			return err
		}
	}
	return nil
}

// visit handles an element of a list or map: a secret or a message with secrets.
func visit(e protoreflect.Message, fd protoreflect.FieldDescriptor, at place, fn func(Field), set func(*configv1.Secret)) error {
	if !isSecret(e.Descriptor()) {
		return walk(e, at, fn)
	}
	fn(Field{
		Path: at.path, ID: at.id, Storage: StorageOf(fd),
		get: func() *configv1.Secret { s, _ := e.Interface().(*configv1.Secret); return s },
		set: func(s *configv1.Secret) {
			if s == nil {
				s = &configv1.Secret{}
			}
			set(s)
		},
	})
	return nil
}

func walkAny(packed *anypb.Any, at place, fn func(Field)) error {
	if packed.GetTypeUrl() == "" {
		return nil
	}
	inner, err := packed.UnmarshalNew()
	if err != nil {
		// The library's error could repeat bytes of the value.
		return fmt.Errorf("%s: cannot read configuration of type %q", at.path, packed.MessageName())
	}
	before := proto.Clone(inner)
	at.id += "(" + string(packed.MessageName()) + ")" // a value of one type is not that of another
	if err := walk(inner.ProtoReflect(), at, fn); err != nil {
		return err
	}
	if proto.Equal(before, inner) {
		return nil
	}
	if err := anypb.MarshalFrom(packed, inner, proto.MarshalOptions{Deterministic: true}); err != nil {
		return fmt.Errorf("%s: cannot pack configuration: %w", at.path, err)
	}
	return nil
}

func isSecret(md protoreflect.MessageDescriptor) bool {
	return md.FullName() == (*configv1.Secret)(nil).ProtoReflect().Descriptor().FullName()
}

func present(m protoreflect.Message, fd protoreflect.FieldDescriptor) *configv1.Secret {
	if !m.Has(fd) {
		return nil
	}
	s, _ := m.Get(fd).Message().Interface().(*configv1.Secret)
	return s
}

// StorageOf returns how the secret in a field is kept.
func StorageOf(fd protoreflect.FieldDescriptor) optionsv1.Storage {
	o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	return o.GetStorage()
}

// elementID names an element by its list key — a binding by type and name — or by its index where it has none.
func elementID(list string, fd protoreflect.FieldDescriptor, e protoreflect.Message, i int) string {
	o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	if b, ok := e.Interface().(*configv1.Binding); ok {
		name := b.GetName()
		if name == "" {
			name = b.GetType()
		}
		return problem.Key(list, b.GetType()+"/"+name)
	}
	if kfd := e.Descriptor().Fields().ByName(protoreflect.Name(o.GetListKey())); kfd != nil {
		return problem.Key(list, e.Get(kfd).String())
	}
	return problem.Index(list, i)
}

// Stored reports whether there is a value: in whatever form, but not merely the wish to keep one.
func Stored(s *configv1.Secret) bool { return s.GetValue() != nil }

// Redact returns a copy of a message in which {set: true} stands for every secret value; references stay, they are not
// secret. A message whose configuration cannot be read is refused.
func Redact[M proto.Message](m M) (M, error) {
	c, _ := proto.Clone(m).(M)
	err := Walk(c, func(f Field) {
		s := f.Get()
		if s == nil || s.GetValue() == nil && !s.GetSet() || s.GetRef() != "" {
			return
		}
		f.Set(&configv1.Secret{Set: true})
	})
	if err != nil {
		var none M
		return none, fmt.Errorf("redact %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return c, nil
}

// Redacted wraps a message for a log line: without its secrets, and worked out only if the line is written.
func Redacted(m proto.Message) slog.LogValuer { return redacted{m} }

type redacted struct{ m proto.Message }

// LogValue renders the message without secrets, or only its type if it cannot be redacted.
func (r redacted) LogValue() slog.Value {
	c, err := Redact(r.m)
	if err != nil {
		return slog.StringValue(string(r.m.ProtoReflect().Descriptor().FullName()))
	}
	text, err := protojson.Marshal(c)
	if err != nil {
		return slog.StringValue(string(r.m.ProtoReflect().Descriptor().FullName()))
	}
	return slog.StringValue(string(text))
}

// String hides the message from formatted output.
func (r redacted) String() string { return r.LogValue().String() }
