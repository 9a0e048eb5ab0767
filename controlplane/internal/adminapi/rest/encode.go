package rest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// encodeMessage writes an answer that is no resource as JSON: snake_case, every field that cannot be absent present,
// resources inside it as the catalog writes them.
func (c *call) encodeMessage(m proto.Message) ([]byte, error) {
	var b strings.Builder
	if err := c.encodeFields(&b, m.ProtoReflect()); err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return []byte(b.String()), nil
}

func (c *call) encodeFields(b *strings.Builder, m protoreflect.Message) error {
	b.WriteByte('{')
	first := true
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.HasPresence() && !m.Has(fd) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		fmt.Fprintf(b, "%q:", fd.Name())
		if err := c.encodeField(b, fd, m.Get(fd)); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func (c *call) encodeField(b *strings.Builder, fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case fd.IsMap():
		entries := make(map[string]string, v.Map().Len()) // the only maps of the API are of strings
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			entries[k.String()] = v.String()
			return true
		})
		return encodeJSON(b, entries)
	case fd.IsList():
		b.WriteByte('[')
		for i := range v.List().Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := c.encodeValue(b, fd, v.List().Get(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	default:
		return c.encodeValue(b, fd, v)
	}
}

func (c *call) encodeValue(b *strings.Builder, fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
	if fd.Kind() != protoreflect.MessageKind {
		return encodeJSON(b, v.Interface())
	}
	switch m := v.Message().Interface().(type) {
	case *timestamppb.Timestamp:
		return encodeJSON(b, m.AsTime().Format(time.RFC3339Nano))
	case *durationpb.Duration:
		return encodeJSON(b, m.AsDuration().String())
	case *anypb.Any:
		doc, _, err := c.encode(m)
		b.Write(doc)
		return err
	default:
		return c.encodeFields(b, v.Message())
	}
}

func encodeJSON(b *strings.Builder, v any) error {
	text, err := json.Marshal(v)
	b.Write(text)
	return err
}
