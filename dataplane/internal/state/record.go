package state

import (
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Record is one resource or system record. It is never changed.
type Record struct {
	// Kind is the plural kebab-case word of the kind, e.g. "routes".
	Kind string
	// UID is the record's id, never used for another.
	UID string
	// Name is unique in the kind; of a credential "consumer/name". It may be empty if Unreadable.
	Name string
	// Bytes are those that were received, a sync.v1.Record; nil if the control plane could not open it.
	Bytes []byte
	// Unreadable says why there are no bytes: what the record guards must be closed.
	Unreadable string
}

// Decode returns the resource, or says why this program cannot use it: what the record guards must then be closed. A set
// keeps only bytes, which are far smaller, so each call decodes anew.
func (r *Record) Decode() (proto.Message, string) {
	if r.Unreadable != "" {
		return nil, r.Unreadable
	}
	env, err := envelopeOf(r.Bytes)
	if err != nil {
		return nil, "it does not parse"
	}
	return decode(r.Kind, env.resource)
}

// open reads a record's envelope. An error means that the bytes are not what the frames said, so the whole change is in
// doubt.
func open(kind, uid string, b []byte) (*Record, error) {
	env, err := envelopeOf(b)
	if err != nil {
		return nil, fmt.Errorf("record %s %s does not parse", kind, uid)
	}
	if string(env.kind) != kind || string(env.uid) != uid || len(env.name) == 0 {
		return nil, fmt.Errorf("record %s %s is another one inside", kind, uid)
	}
	return &Record{Kind: inside(env.kind), UID: inside(env.uid), Name: inside(env.name), Bytes: b}, nil
}

// inside is a string over bytes of a record, which nobody changes any more. Copies would be a tenth of what a gateway with
// a million keys needs.
func inside(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // see above
}

// envelope is a sync.v1.Record, its parts still in the bytes it was read from.
type envelope struct{ kind, uid, name, resource []byte }

// Numbers of the fields of sync.v1.Record.
const (
	fieldKind     = 1
	fieldUID      = 2
	fieldName     = 3
	fieldResource = 4
)

var errEnvelope = errors.New("malformed record")

// envelopeOf reads the envelope without copying what is in it; there are hundreds of thousands to read at a start. As in
// proto.Unmarshal the last of a repeated field counts and unknown fields are passed over, but a second resource, which
// would be merged into the first, is refused.
func envelopeOf(b []byte) (envelope, error) {
	var env envelope
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 || number > protowire.MaxValidNumber {
			return env, errEnvelope
		}
		b = b[n:]
		if number > fieldResource || wire != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, wire, b); n < 0 {
				return env, errEnvelope
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 || number == fieldResource && env.resource != nil {
			return env, errEnvelope
		}
		b = b[n:]
		*env.field(number) = value
	}
	return env, nil
}

func (e *envelope) field(number protowire.Number) *[]byte {
	switch number {
	case fieldKind:
		return &e.kind
	case fieldUID:
		return &e.uid
	case fieldName:
		return &e.name
	default:
		return &e.resource
	}
}

func decode(kind string, resource []byte) (proto.Message, string) {
	url, value, err := anyOf(resource)
	if err != nil {
		return nil, "it does not parse"
	}
	// An error would quote the type's name as received.
	const unknown = "its type is unknown to this gateway or it does not parse"
	k, ok := knownBy(url)
	if !ok {
		return nil, unknown
	}
	m, newer, err := k.unpack(value)
	switch {
	case err != nil:
		return nil, unknown
	case k.kind != "" && k.kind != kind:
		return nil, "its type is of another kind"
	case newer:
		return nil, "it has fields or values that this gateway does not know"
	}
	return m, ""
}

// Numbers of the fields of google.protobuf.Any.
const (
	fieldTypeURL = 1
	fieldValue   = 2
)

// anyOf reads a google.protobuf.Any without copying what is in it.
func anyOf(b []byte) (url string, value []byte, err error) {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 || number > protowire.MaxValidNumber {
			return "", nil, errEnvelope
		}
		b = b[n:]
		if number > fieldValue || wire != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, wire, b); n < 0 {
				return "", nil, errEnvelope
			}
			b = b[n:]
			continue
		}
		part, n := protowire.ConsumeBytes(b)
		if n < 0 || number == fieldTypeURL && !utf8.Valid(part) {
			return "", nil, errEnvelope
		}
		if b = b[n:]; number == fieldTypeURL {
			url = inside(part)
		} else {
			value = part
		}
	}
	return url, value, nil
}

// newerIn reports whether a message has fields or enum values that this program does not know, because a newer control
// plane set them: to run without them could be to run without a protection.
func newerIn(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				found = newerValue(f.MapValue(), v)
				return !found
			})
		case f.Message() == nil && f.Enum() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				found = newerValue(f, v.List().Get(i))
			}
		default:
			found = newerValue(f, v)
		}
		return !found
	})
	return found
}

func newerValue(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	if f.Enum() != nil {
		return f.Enum().Values().ByNumber(v.Enum()) == nil
	}
	return f.Message() != nil && newerIn(v.Message())
}
