package render

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	strTag  = "!!str"
	intTag  = "!!int"
	boolTag = "!!bool"
)

// tree turns an answer of the admin API into a document. Every field is there, empty ones too, so that scripts need not
// ask; only messages that are not set are left out. Resources are written as the file format has them.
func (p *Printer) tree(m protoreflect.Message) (*yaml.Node, error) {
	if special, ok, err := p.wellKnown(m); ok || err != nil {
		return special, err
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.HasPresence() && !m.Has(fd) {
			continue
		}
		value, err := p.field(fd, m.Get(fd))
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, text(string(fd.Name())), value)
	}
	return n, nil
}

func (p *Printer) wellKnown(m protoreflect.Message) (*yaml.Node, bool, error) {
	switch m := m.Interface().(type) {
	case *timestamppb.Timestamp:
		return text(m.AsTime().Format(time.RFC3339Nano)), true, nil
	case *durationpb.Duration:
		return text(m.AsDuration().String()), true, nil
	case *anypb.Any:
		inner, err := m.UnmarshalNew()
		if err != nil {
			return nil, true, fmt.Errorf("print %s: %w", m.GetTypeUrl(), err)
		}
		n, err := p.tree(inner.ProtoReflect())
		return n, true, err
	default:
		return p.resource(m)
	}
}

// resource writes a message of the file format by its own encoder.
func (p *Printer) resource(m proto.Message) (*yaml.Node, bool, error) {
	data, ok, err := p.encode(m)
	if !ok || err != nil {
		return nil, ok, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil { // JSON is YAML
		return nil, true, fmt.Errorf("print %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	n := doc.Content[0]
	plain(n)
	return n, true, nil
}

// plain undoes the look of JSON, so that the node can be printed as either.
func plain(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode {
		n.Tag = n.ShortTag()
		if n.Tag == strTag && needsQuotes(n.Value) {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, c := range n.Content {
		plain(c)
	}
}

func (p *Printer) field(fd protoreflect.FieldDescriptor, v protoreflect.Value) (*yaml.Node, error) {
	switch {
	case fd.IsList():
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.List().Len() {
			item, err := p.single(fd, v.List().Get(i))
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		return n, nil
	case fd.IsMap():
		return p.mapping(fd, v.Map())
	default:
		return p.single(fd, v)
	}
}

func (p *Printer) mapping(fd protoreflect.FieldDescriptor, m protoreflect.Map) (*yaml.Node, error) {
	var keys []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range keys {
		value, err := p.single(fd.MapValue(), m.Get(k))
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, text(k.String()), value)
	}
	return n, nil
}

func (p *Printer) single(fd protoreflect.FieldDescriptor, v protoreflect.Value) (*yaml.Node, error) {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return p.tree(v.Message())
	case protoreflect.BoolKind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: boolTag, Value: strconv.FormatBool(v.Bool())}, nil
	case protoreflect.StringKind:
		return text(v.String()), nil
	case protoreflect.BytesKind:
		return text(base64.StdEncoding.EncodeToString(v.Bytes())), nil
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: intTag, Value: strconv.FormatInt(v.Int(), 10)}, nil
	case protoreflect.Uint32Kind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: intTag, Value: strconv.FormatUint(v.Uint(), 10)}, nil
	case protoreflect.Uint64Kind:
		// An opaque number (an epoch) that may not fit into the doubles of most JSON readers.
		return text(strconv.FormatUint(v.Uint(), 10)), nil
	default:
		return nil, fmt.Errorf("print %s: unexpected type %s", fd.FullName(), fd.Kind())
	}
}

func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: strTag, Value: s}
	if needsQuotes(s) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// needsQuotes is true of strings that a YAML reader would take for something else ("true", "12", "").
func needsQuotes(s string) bool {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(s), &n); err != nil || len(n.Content) != 1 {
		return true
	}
	return n.Content[0].Kind != yaml.ScalarNode || n.Content[0].ShortTag() != strTag || n.Content[0].Value != s
}
