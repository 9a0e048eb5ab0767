package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/shared/problem"
)

// Normalize brings a message, wherever it came from, into the one form in which resources are compared, stored and
// streamed: defaults filled in, values in their normal form, bindings named, configurations present. It is idempotent.
// What cannot be brought there — a value that is not of its format, an unknown type or enum number, unknown fields — is
// told; the message then is as normal as it could be made. Binary API requests do not pass the document decoder, so
// every rule about single values holds here again.
func (c *Catalog) Normalize(m proto.Message) []problem.Violation {
	n := &normalizer{cat: c}
	n.message(m.ProtoReflect(), "")
	return problem.Sort(n.violations)
}

type normalizer struct {
	cat        *Catalog
	violations []problem.Violation
}

func (n *normalizer) fail(path, reason string) {
	n.violations = append(n.violations, problem.Violation{Path: path, Reason: reason})
}

func (n *normalizer) message(m protoreflect.Message, path string) {
	s := n.cat.shapes[m.Descriptor().FullName()]
	if s == nil {
		return // well-known types and secrets have rules of their own
	}
	if len(m.GetUnknown()) > 0 {
		n.fail(path, "holds fields that this version does not know")
		m.SetUnknown(nil)
	}
	for _, f := range s.fields {
		if f.outputOnly {
			continue
		}
		at := problem.Key(path, f.name)
		switch {
		case f.what == isAny:
			n.config(m, s, f, path)
		case m.Has(f.fd):
			n.field(m, f, at)
		case f.hasDefault:
			n.fillIn(m, f, at)
		}
	}
	if s.md.FullName() == bindingName && !m.Has(s.byName["name"].fd) {
		m.Set(s.byName["name"].fd, m.Get(s.typeField.fd))
	}
}

func (n *normalizer) fillIn(m protoreflect.Message, f *field, path string) {
	switch f.what {
	case isMessage:
		n.message(m.Mutable(f.fd).Message(), path)
	case isDuration, isTimestamp: // the default is shared, messages must not be
		m.Set(f.fd, protoreflect.ValueOfMessage(proto.Clone(f.def.Message().Interface()).ProtoReflect()))
	default:
		m.Set(f.fd, f.def)
	}
}

func (n *normalizer) field(m protoreflect.Message, f *field, path string) {
	switch {
	case f.fd.IsMap():
		n.mapField(m.Mutable(f.fd).Map(), f, path)
	case f.fd.IsList():
		n.list(m.Mutable(f.fd).List(), f, path)
	case f.what == isMessage:
		n.message(m.Mutable(f.fd).Message(), path)
	default:
		m.Set(f.fd, n.value(m.Get(f.fd), f, path))
	}
}

func (n *normalizer) list(list protoreflect.List, f *field, path string) {
	for i := range list.Len() {
		if f.what == isMessage {
			n.message(list.Get(i).Message(), problem.Index(path, i))
			continue
		}
		list.Set(i, n.value(list.Get(i), f, problem.Index(path, i)))
	}
	if f.unique {
		for _, r := range repetitions(list, f) {
			n.fail(problem.Index(path, r.at), r.reason)
		}
	}
	n.listKeys(list, f, path)
}

// listKeys tells elements whose key is that of an earlier one. Bindings are told apart by type and name together.
func (n *normalizer) listKeys(list protoreflect.List, f *field, path string) {
	if f.listKey == "" || f.what != isMessage {
		return
	}
	first := make(map[string]int, list.Len())
	for i := range list.Len() {
		m := list.Get(i).Message()
		s := n.cat.shapes[m.Descriptor().FullName()]
		text := m.Get(s.byName[f.listKey].fd).String()
		key := text
		if s.md.FullName() == bindingName {
			key = m.Get(s.typeField.fd).String() + "\x00" + text
		}
		if j, ok := first[key]; ok && text != "" {
			n.fail(problem.Key(problem.Index(path, i), f.listKey), fmt.Sprintf("%s already is the %s of element %d", quote(text), f.listKey, j))
			continue
		}
		first[key] = i
	}
}

func (n *normalizer) mapField(dst protoreflect.Map, f *field, path string) {
	keys := make([]string, 0, dst.Len())
	dst.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, k := range keys {
		mk := protoreflect.ValueOfString(k).MapKey()
		if f.what == isMessage {
			n.message(dst.Mutable(mk).Message(), problem.Key(path, k))
			continue
		}
		dst.Set(mk, n.value(dst.Get(mk), f, problem.Key(path, k)))
	}
}

// value brings a single value into its normal form.
func (n *normalizer) value(v protoreflect.Value, f *field, path string) protoreflect.Value {
	switch f.what {
	case isString:
		normal, reason := normalForm(f.format, v.String())
		if reason != "" {
			n.fail(path, reason)
			return v
		}
		return protoreflect.ValueOfString(normal)
	case isEnum:
		if _, ok := f.enum.names[v.Enum()]; !ok {
			n.fail(path, strconv.Itoa(int(v.Enum()))+" is not one of: "+strings.Join(f.enum.words, ", "))
		}
	default:
	}
	return v
}

// config normalises what is inside an Any: of the type that the word beside it says, present even where left out.
func (n *normalizer) config(m protoreflect.Message, s *shape, f *field, path string) {
	word := m.Get(s.typeField.fd).String()
	if word == "" {
		return // required; told by the rules of the message
	}
	if reason := n.cat.typeReason(s.md.FullName(), word); reason != "" {
		n.fail(problem.Key(path, s.typeField.name), reason)
		return
	}
	mt := n.cat.configType(s.md.FullName(), word)
	cfg, at := mt.New(), problem.Key(path, f.name)
	if m.Has(f.fd) {
		packed, ok := m.Get(f.fd).Message().Interface().(*anypb.Any)
		if !ok || packed.MessageName() != mt.Descriptor().FullName() {
			n.fail(at, fmt.Sprintf("is not the configuration of type %q", word))
			return
		}
		if err := proto.Unmarshal(packed.GetValue(), cfg.Interface()); err != nil {
			n.fail(at, "cannot be read")
			return
		}
	}
	n.message(cfg, at)
	packed, err := packAny(cfg.Interface())
	if err != nil {
		n.fail(at, "cannot be stored")
		return
	}
	m.Set(f.fd, protoreflect.ValueOfMessage(packed.ProtoReflect()))
}

// Config unpacks the configuration of a binding or credential. The message is a fresh copy.
func (c *Catalog) Config(packed *anypb.Any) (proto.Message, error) {
	name := packed.MessageName()
	s := c.shapes[name]
	if s == nil {
		return nil, fmt.Errorf("unpack configuration: unknown type %q", name)
	}
	m, err := packed.UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("unpack %s: malformed", name)
	}
	return m, nil
}
