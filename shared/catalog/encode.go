package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// EncodeOptions say how much of a message is written.
type EncodeOptions struct {
	// OmitDefaults leaves out what Normalize would fill in again.
	OmitDefaults bool
	// ShortForms writes `/p` for {prefix: /p} and a single value for a list of one, where the decoder takes it.
	ShortForms bool
	// WithoutOutputOnly leaves out what the server sets.
	WithoutOutputOnly bool
}

// Encode writes a resource, a configuration or a part of one as a document of a media type. Secrets are written as
// {set: true}, or as their reference; their values never are.
func (c *Catalog) Encode(m proto.Message, contentType string, o EncodeOptions) ([]byte, error) {
	n, err := c.tree(m, o)
	if err != nil {
		return nil, err
	}
	return render(n, contentType), nil
}

func (c *Catalog) tree(m proto.Message, o EncodeOptions) (*node, error) {
	e := &encoder{cat: c, o: o}
	n, err := e.message(m.ProtoReflect())
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return n, nil
}

type encoder struct {
	cat *Catalog
	o   EncodeOptions
}

func (e *encoder) message(m protoreflect.Message) (*node, error) {
	s := e.cat.shapes[m.Descriptor().FullName()]
	if s == nil {
		return nil, fmt.Errorf("unknown message %s", m.Descriptor().FullName())
	}
	n := &node{kind: kindMap}
	for _, f := range s.fields {
		if !m.Has(f.fd) || f.outputOnly && e.o.WithoutOutputOnly || e.isDefault(m, s, f) {
			continue
		}
		v, err := e.field(m, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if v != nil {
			n.set(f.name, v)
		}
	}
	if e.o.ShortForms && s.short != nil && len(n.entries) == 1 && n.entries[0].key.text == s.short.name {
		return n.entries[0].node, nil
	}
	return n, nil
}

// isDefault reports whether Normalize would bring the value back if it were left out.
func (e *encoder) isDefault(m protoreflect.Message, s *shape, f *field) bool {
	switch {
	case !e.o.OmitDefaults:
		return false
	case s.md.FullName() == bindingName && f.name == "name":
		return m.Get(f.fd).String() == m.Get(s.typeField.fd).String()
	case !f.hasDefault || f.what == isMessage:
		return false
	default:
		return m.Get(f.fd).Equal(f.def)
	}
}

// field writes the value of a field, nil if there is nothing to write.
func (e *encoder) field(m protoreflect.Message, f *field) (*node, error) {
	v := m.Get(f.fd)
	switch {
	case f.fd.IsMap():
		return e.mapField(v.Map(), f)
	case f.fd.IsList():
		return e.list(v.List(), f)
	}
	n, err := e.value(v, f)
	if err != nil {
		return nil, err
	}
	empty := n != nil && n.kind == kindMap && len(n.entries) == 0
	if empty && e.o.OmitDefaults && (f.what == isAny || f.hasDefault) {
		return nil, nil
	}
	return n, nil
}

func (e *encoder) list(list protoreflect.List, f *field) (*node, error) {
	n := &node{kind: kindList}
	for i := range list.Len() {
		v, err := e.value(list.Get(i), f)
		if err != nil {
			return nil, err
		}
		if v == nil {
			v = &node{kind: kindMap}
		}
		n.items = append(n.items, v)
	}
	if e.o.ShortForms && f.scalarOK && len(n.items) == 1 && n.items[0].kind != kindList {
		return n.items[0], nil
	}
	return n, nil
}

func (e *encoder) mapField(m protoreflect.Map, f *field) (*node, error) {
	keys := make([]string, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	n := &node{kind: kindMap}
	for _, k := range keys {
		v, err := e.value(m.Get(protoreflect.ValueOfString(k).MapKey()), f)
		if err != nil {
			return nil, err
		}
		if v != nil {
			n.set(k, v)
		}
	}
	return n, nil
}

func (e *encoder) value(v protoreflect.Value, f *field) (*node, error) {
	switch f.what {
	case isString:
		return &node{kind: kindString, text: v.String()}, nil
	case isBool:
		return &node{kind: kindBool, text: strconv.FormatBool(v.Bool())}, nil
	case isInt:
		return intNode(v, f), nil
	case isEnum:
		if word, ok := f.enum.names[v.Enum()]; ok {
			return &node{kind: kindString, text: word}, nil
		}
		return nil, fmt.Errorf("no word for number %d", v.Enum())
	case isMessage:
		return e.message(v.Message())
	default:
		return e.wellKnown(v.Message().Interface())
	}
}

func intNode(v protoreflect.Value, f *field) *node {
	switch i := v.Interface().(type) {
	case uint64:
		if f.format != 0 {
			if text := formatSize(i); text != strconv.FormatUint(i, 10) {
				return &node{kind: kindString, text: text}
			}
		}
		return &node{kind: kindInt, text: strconv.FormatUint(i, 10)}
	case uint32:
		if f.format == optionsv1.Format_FORMAT_PERCENT {
			return &node{kind: kindString, text: formatPercent(i)}
		}
		return &node{kind: kindInt, text: strconv.FormatUint(uint64(i), 10)}
	default:
		return &node{kind: kindInt, text: strconv.FormatInt(v.Int(), 10)}
	}
}

func (e *encoder) wellKnown(m proto.Message) (*node, error) {
	switch m := m.(type) {
	case *durationpb.Duration:
		return &node{kind: kindString, text: formatDuration(m.AsDuration())}, nil
	case *timestamppb.Timestamp:
		return &node{kind: kindString, text: m.AsTime().Format(time.RFC3339Nano)}, nil
	case *configv1.Secret:
		return secretNode(m), nil
	case *anypb.Any:
		cfg, err := e.cat.Config(m)
		if err != nil {
			return nil, err
		}
		return e.message(cfg.ProtoReflect())
	default:
		return nil, fmt.Errorf("documents cannot hold %s", m.ProtoReflect().Descriptor().FullName())
	}
}

// secretNode writes that there is a value, or where it is; nil if there is none.
func secretNode(s *configv1.Secret) *node {
	n := &node{kind: kindMap}
	switch {
	case s.GetRef() != "":
		n.set("ref", &node{kind: kindString, text: s.GetRef()})
	case s.GetSet() || s.GetValue() != nil:
		n.set("set", &node{kind: kindBool, text: "true"})
	default:
		return nil
	}
	return n
}
