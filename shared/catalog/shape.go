package catalog

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// shape is what the decoder, encoder and normaliser need to know of a message, worked out once from its descriptor.
type shape struct {
	md     protoreflect.MessageDescriptor
	fields []*field // by number
	byName map[string]*field
	short  *field // the field that a bare value stands for, nil for none
	// typeField and anyField are set on messages whose configuration's type depends on a word beside it.
	typeField, anyField *field
}

// field is what they need to know of a field.
type field struct {
	fd         protoreflect.FieldDescriptor
	name       string
	what       fieldKind
	format     optionsv1.Format
	reference  string
	scalarOK   bool
	outputOnly bool
	unique     bool
	listKey    string
	storage    optionsv1.Storage
	enum       *enumWords // of an enum field
	// hasDefault says that def (or, for a message with the default "{}", an empty message) is filled in when left out.
	hasDefault bool
	def        protoreflect.Value
}

// fieldKind is how one value of a field is written.
type fieldKind uint8

const (
	isString fieldKind = iota
	isBool
	isInt
	isEnum
	isDuration
	isTimestamp
	isSecret
	isAny
	isMessage
)

func (k fieldKind) expects(f optionsv1.Format) string {
	switch k {
	case isString:
		return "a string"
	case isBool:
		return "true or false"
	case isInt:
		switch f {
		case optionsv1.Format_FORMAT_SIZE:
			return "a size such as 64KiB"
		case optionsv1.Format_FORMAT_PERCENT:
			return "a percentage such as 20%"
		default:
			return "an integer"
		}
	case isEnum:
		return "a word"
	case isDuration:
		return "a duration such as 250ms, 60s or 5m"
	case isTimestamp:
		return "a time such as 2026-01-31T12:00:00Z"
	case isSecret:
		return "a secret: a string, {set: true}, {ref: …} or null"
	default:
		return "a mapping"
	}
}

// shapeOf works out the shape of a message and of every message in it.
func (c *Catalog) shapeOf(md protoreflect.MessageDescriptor) error {
	if _, ok := c.shapes[md.FullName()]; ok {
		return nil
	}
	s := &shape{md: md, byName: map[string]*field{}}
	c.shapes[md.FullName()] = s
	for i := range md.Fields().Len() {
		f, err := c.fieldOf(md.Fields().Get(i))
		if err != nil {
			return fmt.Errorf("%s: %w", md.Fields().Get(i).FullName(), err)
		}
		s.fields = append(s.fields, f)
		s.byName[f.name] = f
		if f.what == isAny {
			s.anyField = f
		}
	}
	if s.anyField != nil {
		if s.typeField = s.byName["type"]; s.typeField == nil || s.typeField.what != isString {
			return fmt.Errorf("%s: a field of type Any needs a string field `type` beside it", md.FullName())
		}
	}
	return s.readShortForm()
}

func (s *shape) readShortForm() error {
	o, _ := proto.GetExtension(s.md.Options(), optionsv1.E_Document).(*optionsv1.DocumentOptions)
	if o.GetScalarField() == "" {
		return nil
	}
	s.short = s.byName[o.GetScalarField()]
	if s.short == nil || s.short.what != isString && s.short.what != isEnum {
		return fmt.Errorf("%s: scalar_field %q is no field of text or words", s.md.FullName(), o.GetScalarField())
	}
	return nil
}

func (c *Catalog) fieldOf(fd protoreflect.FieldDescriptor) (*field, error) {
	o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	f := &field{
		fd: fd, name: string(fd.Name()), format: o.GetFormat(), reference: o.GetReference(), scalarOK: o.GetScalarOk(),
		outputOnly: o.GetOutputOnly(), unique: o.GetUnique(), listKey: o.GetListKey(), storage: o.GetStorage(),
	}
	value := fd
	if fd.IsMap() {
		if fd.MapKey().Kind() != protoreflect.StringKind {
			return nil, fmt.Errorf("maps need string keys")
		}
		value = fd.MapValue()
	}
	if err := c.classify(f, value); err != nil {
		return nil, err
	}
	if o != nil && o.Default != nil {
		return f, f.readDefault(o.GetDefault())
	}
	return f, nil
}

// classify says how a value of the field is written.
func (c *Catalog) classify(f *field, value protoreflect.FieldDescriptor) error {
	switch value.Kind() {
	case protoreflect.StringKind:
		f.what = isString
	case protoreflect.BoolKind:
		f.what = isBool
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		f.what = isInt
	case protoreflect.EnumKind:
		f.what = isEnum
		f.enum = wordsOf(value.Enum())
	case protoreflect.MessageKind:
		switch value.Message().FullName() {
		case durationName:
			f.what = isDuration
		case timestampName:
			f.what = isTimestamp
		case secretName:
			f.what = isSecret
		case anyName:
			f.what = isAny
		default:
			f.what = isMessage
			return c.shapeOf(value.Message())
		}
	default:
		return fmt.Errorf("documents cannot hold a field of kind %s", value.Kind())
	}
	return nil
}

// readDefault parses the default as if it stood in a document.
func (f *field) readDefault(text string) error {
	f.hasDefault = true
	if f.what == isMessage && text == "{}" && !f.fd.IsList() && !f.fd.IsMap() {
		return nil
	}
	if f.fd.IsList() || f.fd.IsMap() || f.what >= isSecret {
		return fmt.Errorf("a default is for single values")
	}
	n := &node{kind: kindString, text: text}
	switch {
	case f.what == isBool:
		n.kind = kindBool
	case f.what == isInt && strings.Trim(text, "-0123456789") == "":
		n.kind = kindInt
	}
	v, reason := f.scalar(n)
	if reason != "" {
		return fmt.Errorf("default %q: %s", text, reason)
	}
	f.def = v
	return nil
}

// implicit reports whether the field cannot tell "left out" from its zero value.
func (f *field) implicit() bool {
	return !f.fd.HasPresence() && !f.fd.IsList() && !f.fd.IsMap()
}

// enumWords maps the kebab-case words of an enum to its numbers and back. The zero value has no word.
type enumWords struct {
	words   []string
	numbers map[string]protoreflect.EnumNumber
	names   map[protoreflect.EnumNumber]string
}

// wordsOf strips the enum's own name from its values: RATE_LIMIT_BY_IP of RateLimitBy is "ip".
func wordsOf(ed protoreflect.EnumDescriptor) *enumWords {
	w := &enumWords{numbers: map[string]protoreflect.EnumNumber{}, names: map[protoreflect.EnumNumber]string{}}
	prefix := strings.TrimSuffix(string(ed.Values().ByNumber(0).Name()), "UNSPECIFIED")
	for i := range ed.Values().Len() {
		v := ed.Values().Get(i)
		if v.Number() == 0 {
			continue
		}
		word := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(v.Name()), prefix), "_", "-"))
		w.words = append(w.words, word)
		w.numbers[word] = v.Number()
		w.names[v.Number()] = word
	}
	return w
}
