package catalog

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/shared/problem"
)

// decoder reads a tree into messages. It goes on after a violation, so that all are told at once.
type decoder struct {
	cat        *Catalog
	violations []problem.Violation
	// owned are the words of kinds that may stand inside a resource, for suggestions.
	owned []string
	// clears are the paths of secrets that are written as null.
	clears []string
}

func (d *decoder) fail(n *node, path, reason string) {
	d.violations = append(d.violations, problem.Violation{Path: path, Reason: reason, Line: n.line, Column: n.col})
}

// message reads a mapping, or the short form of one, into m.
func (d *decoder) message(n *node, m protoreflect.Message, path string) {
	s := d.cat.shapes[m.Descriptor().FullName()]
	if n.kind != kindMap && s.short != nil {
		d.shortForm(n, m, s, path)
		return
	}
	if n.kind != kindMap {
		what := "a mapping"
		if s.short != nil {
			what = "a string or a mapping"
		}
		d.fail(n, path, fmt.Sprintf("expected %s, found %s", what, n.kind))
		return
	}
	seen := make(map[string]bool, len(n.entries))
	for _, e := range n.entries {
		key, ok := d.key(e.key, path, seen)
		if !ok {
			continue
		}
		f := s.byName[key]
		if f == nil {
			d.fail(e.key, problem.Key(path, key), "unknown field"+suggest(key, append(s.names(), d.owned...)))
			continue
		}
		if other := oneofSibling(f, m); other != "" {
			d.fail(e.key, problem.Key(path, key), fmt.Sprintf("%s and %s exclude each other", other, f.name))
			continue
		}
		d.field(e.node, m, s, f, n, problem.Key(path, key))
	}
}

// key returns the text of a key, unless it is not a string or stands there twice.
func (d *decoder) key(n *node, path string, seen map[string]bool) (string, bool) {
	if !n.isString() {
		d.fail(n, path, fmt.Sprintf("a key must be a string, found %s", n.kind))
		return "", false
	}
	if seen[n.text] {
		d.fail(n, problem.Key(path, n.text), "written twice")
		return "", false
	}
	seen[n.text] = true
	return n.text, true
}

// shortForm reads a bare value for the field it stands for; a list where that field is one.
func (d *decoder) shortForm(n *node, m protoreflect.Message, s *shape, path string) {
	f := s.short
	if !f.fd.IsList() && n.kind == kindList {
		d.fail(n, path, "expected a string or a mapping, found a list")
		return
	}
	if f.fd.IsList() && n.isString() {
		n = &node{kind: kindList, items: []*node{n}, line: n.line, col: n.col}
	}
	d.field(n, m, s, f, nil, path)
}

// oneofSibling returns the name of a field that is set already and excludes f.
func oneofSibling(f *field, m protoreflect.Message) string {
	o := f.fd.ContainingOneof()
	if o == nil || o.IsSynthetic() {
		return ""
	}
	if other := m.WhichOneof(o); other != nil && other.Number() != f.fd.Number() {
		return string(other.Name())
	}
	return ""
}

func (s *shape) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// field reads the value of a field; whole is the mapping it stands in.
func (d *decoder) field(n *node, m protoreflect.Message, s *shape, f *field, whole *node, path string) {
	switch {
	case f.what == isSecret && !f.fd.IsList() && !f.fd.IsMap():
		if sec, ok := d.secret(n, path); ok {
			m.Set(f.fd, protoreflect.ValueOfMessage(sec.ProtoReflect()))
		}
	case f.what == isAny:
		d.config(n, m, s, f, whole, path)
	case n.kind == kindNull:
		d.fail(n, path, "null is not a value; leave the field out to get its default")
	case f.fd.IsMap():
		d.mapField(n, m, f, path)
	case f.fd.IsList():
		d.list(n, m, f, path)
	case f.what == isMessage:
		d.message(n, m.Mutable(f.fd).Message(), path)
	default:
		v, reason := f.scalar(n)
		if reason != "" {
			d.fail(n, path, reason)
			return
		}
		// Such a field cannot keep its zero value apart from "left out", which means the default.
		if f.hasDefault && f.implicit() && isZero(f, v) {
			d.fail(n, path, "must not be empty or 0")
			return
		}
		m.Set(f.fd, v)
		if f == s.typeField && s.anyField != nil {
			if reason := d.cat.typeReason(s.md.FullName(), v.String()); reason != "" {
				d.fail(n, path, reason)
			}
		}
	}
}

func isZero(f *field, v protoreflect.Value) bool {
	return v.Equal(f.fd.Default())
}

func (d *decoder) list(n *node, m protoreflect.Message, f *field, path string) {
	list := m.Mutable(f.fd).List()
	if n.kind != kindList {
		if !f.scalarOK {
			d.fail(n, path, fmt.Sprintf("expected a list, found %s", n.kind))
			return
		}
		d.element(n, list, f, path)
		return
	}
	for i, item := range n.items {
		at := problem.Index(path, i)
		if item.kind == kindNull {
			d.fail(item, at, "null is not a value")
			list.Append(list.NewElement())
			continue
		}
		d.element(item, list, f, at)
	}
	if f.unique {
		d.unique(n, list, f, path)
	}
}

// element appends one element, also a broken one, so that the places of the others stay right.
func (d *decoder) element(n *node, list protoreflect.List, f *field, path string) {
	switch f.what {
	case isSecret:
		sec, _ := d.secret(n, path)
		list.Append(protoreflect.ValueOfMessage(sec.ProtoReflect()))
	case isMessage:
		e := list.NewElement()
		d.message(n, e.Message(), path)
		list.Append(e)
	default:
		v, reason := f.scalar(n)
		if reason != "" {
			d.fail(n, path, reason)
			v = list.NewElement()
		}
		list.Append(v)
	}
}

// unique tells repetitions, compared in their normal form.
func (d *decoder) unique(n *node, list protoreflect.List, f *field, path string) {
	for _, r := range repetitions(list, f) {
		if !slices.ContainsFunc(d.violations, func(v problem.Violation) bool { return v.Path == problem.Index(path, r.at) }) {
			d.fail(n.items[r.at], problem.Index(path, r.at), r.reason)
		}
	}
}

func (d *decoder) mapField(n *node, m protoreflect.Message, f *field, path string) {
	if n.kind != kindMap {
		d.fail(n, path, fmt.Sprintf("expected a mapping, found %s", n.kind))
		return
	}
	dst := m.Mutable(f.fd).Map()
	seen := make(map[string]bool, len(n.entries))
	for _, e := range n.entries {
		key, ok := d.key(e.key, path, seen)
		if !ok {
			continue
		}
		at, v := problem.Key(path, key), dst.NewValue()
		switch f.what {
		case isMessage:
			d.message(e.node, v.Message(), at)
		case isSecret:
			if sec, ok := d.secret(e.node, at); ok {
				v = protoreflect.ValueOfMessage(sec.ProtoReflect())
			}
		default:
			var reason string
			if v, reason = f.scalar(e.node); reason != "" {
				d.fail(e.node, at, reason)
				continue
			}
		}
		dst.Set(protoreflect.ValueOfString(key).MapKey(), v)
	}
}

// config reads a configuration whose type the word in the field `type` beside it says.
func (d *decoder) config(n *node, m protoreflect.Message, s *shape, f *field, whole *node, path string) {
	t := whole.get(s.typeField.name)
	if t == nil || !t.isString() {
		if t == nil {
			d.fail(n, problem.Key(strings.TrimSuffix(strings.TrimSuffix(path, f.name), "."), s.typeField.name), "required: it says what config means")
		}
		return // a `type` of the wrong kind is told where it stands
	}
	mt := d.cat.configType(s.md.FullName(), t.text)
	if mt == nil {
		return // an unknown type, told where it stands
	}
	cfg := mt.New()
	d.message(n, cfg, path)
	if packed, err := packAny(cfg.Interface()); err == nil {
		m.Set(f.fd, protoreflect.ValueOfMessage(packed.ProtoReflect()))
	} else {
		d.fail(n, path, "cannot be stored")
	}
}

func packAny(m proto.Message) (*anypb.Any, error) {
	var a anypb.Any
	if err := anypb.MarshalFrom(&a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("pack configuration: %w", err)
	}
	return &a, nil
}

// repetition is an element of a list that is equal to an earlier one.
type repetition struct {
	at     int
	reason string
}

func repetitions(list protoreflect.List, f *field) []repetition {
	var out []repetition
	first := make(map[any]int, list.Len())
	for i := range list.Len() {
		v := list.Get(i).Interface()
		if j, ok := first[v]; ok && f.what <= isEnum {
			out = append(out, repetition{i, fmt.Sprintf("the same as element %d", j)})
			continue
		} else if f.what > isEnum {
			return nil
		}
		first[v] = i
	}
	return out
}
