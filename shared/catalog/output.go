package catalog

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Output is what the server knows of a resource beside what users wrote.
type Output struct {
	UID                  string
	Revision             int64
	CreatedAt, UpdatedAt time.Time
}

// ETag returns the entity tag of a resource that last changed at a revision, without quotes.
func ETag(revision int64) string { return strconv.FormatInt(revision, 10) }

// SetOutput fills in the output-only fields of a resource. Zero times are left out.
func SetOutput(m proto.Message, o Output) {
	set := func(name protoreflect.Name, v protoreflect.Value) {
		if fd := m.ProtoReflect().Descriptor().Fields().ByName(name); fd != nil {
			m.ProtoReflect().Set(fd, v)
		}
	}
	set("uid", protoreflect.ValueOfString(o.UID))
	set("revision", protoreflect.ValueOfInt64(o.Revision))
	set("etag", protoreflect.ValueOfString(ETag(o.Revision)))
	if !o.CreatedAt.IsZero() {
		set("created_at", protoreflect.ValueOfMessage(timestamppb.New(o.CreatedAt).ProtoReflect()))
	}
	if !o.UpdatedAt.IsZero() {
		set("updated_at", protoreflect.ValueOfMessage(timestamppb.New(o.UpdatedAt).ProtoReflect()))
	}
}

// ClearOutput removes the output-only fields of a resource, as before it is stored.
func (c *Catalog) ClearOutput(m proto.Message) {
	for _, fd := range c.OutputFields(m) {
		m.ProtoReflect().Clear(fd)
	}
}

// OutputFields lists the output-only fields that are set in a resource.
func (c *Catalog) OutputFields(m proto.Message) []protoreflect.FieldDescriptor {
	var set []protoreflect.FieldDescriptor
	if s := c.shapes[m.ProtoReflect().Descriptor().FullName()]; s != nil {
		for _, f := range s.fields {
			if f.outputOnly && m.ProtoReflect().Has(f.fd) {
				set = append(set, f.fd)
			}
		}
	}
	return set
}
