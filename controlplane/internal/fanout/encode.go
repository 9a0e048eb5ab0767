package fanout

import (
	"fmt"
	"time"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// maxFrameBytes is how much of a record goes into one frame; with its envelope a frame stays below 256 KiB.
const maxFrameBytes = 240 << 10

// Message is an encoded sync.v1.ConfigResponse. The body is shared with the record it came from.
type Message struct{ head, body []byte }

// Encode encodes a message that is not part of the fan-out.
func Encode(m *syncv1.ConfigResponse) (Message, error) {
	b, err := proto.Marshal(m)
	return Message{head: b}, err
}

// Size returns the number of bytes.
func (m Message) Size() int { return len(m.head) + len(m.body) }

// Codec is the server's codec: it sends a *Message as it is, and everything else as protobuf.
type Codec struct{ proto encoding.CodecV2 }

// NewCodec returns the codec; it belongs into grpc.ForceServerCodecV2.
func NewCodec() Codec { return Codec{proto: encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*Message)
	if !ok {
		return c.proto.Marshal(v)
	}
	if len(m.body) == 0 {
		return mem.BufferSlice{mem.SliceBuffer(m.head)}, nil
	}
	return mem.BufferSlice{mem.SliceBuffer(m.head), mem.SliceBuffer(m.body)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error { return c.proto.Unmarshal(data, v) }

// Name implements encoding.CodecV2.
func (c Codec) Name() string { return c.proto.Name() }

// Batch is a whole change set or snapshot, from its begin to its commit. It is immutable and shared by all streams.
type Batch struct {
	// To is where a stream stands after it.
	To Position
	// Reset says that it is the whole set.
	Reset bool
	// CommittedAt is when the revision was committed; zero in a snapshot.
	CommittedAt time.Time
	Messages    []Message
	size        int64
}

type encoder struct{ batch Batch }

func (e *encoder) add(m Message) {
	e.batch.Messages = append(e.batch.Messages, m)
	// Slices and allocator overhead count too: a change of many small records is mostly that.
	e.batch.size += int64(m.Size()) + 64
}

func (e *encoder) message(m *syncv1.ConfigResponse) error {
	encoded, err := Encode(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	e.add(encoded)
	return nil
}

func (e *encoder) begin(b *syncv1.Begin) error {
	return e.message(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Begin{Begin: b}})
}

func (e *encoder) commit(at *timestamppb.Timestamp) error {
	to := e.batch.To
	c := &syncv1.Commit{Epoch: to.Epoch, Revision: to.Revision, Digest: to.Digest[:], CommittedAt: at}
	return e.message(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Commit{Commit: c}})
}

func encodeChange(from int64, c Change) (*Batch, error) {
	e := encoder{batch: Batch{CommittedAt: c.CommittedAt, To: Position{Epoch: c.Epoch, Revision: c.Revision, Digest: c.Digest}}}
	if err := e.begin(&syncv1.Begin{Epoch: c.Epoch, FromRevision: from}); err != nil {
		return nil, err
	}
	for _, r := range c.Removes {
		e.add(Message{head: frame(frameHead{kind: r.Kind, uid: r.UID, removed: true}, 0)})
	}
	for _, r := range c.Upserts {
		e.record(r)
	}
	var at *timestamppb.Timestamp
	if !c.CommittedAt.IsZero() {
		at = timestamppb.New(c.CommittedAt)
	}
	return &e.batch, e.commit(at)
}

func encodeSnapshot(s Snapshot) (*Batch, error) {
	e := encoder{batch: Batch{Reset: true, To: Position{Epoch: s.Epoch, Revision: s.Revision, Digest: s.Digest}}}
	if err := e.begin(&syncv1.Begin{Reset_: true, Epoch: s.Epoch}); err != nil {
		return nil, err
	}
	for r := range s.Records {
		e.record(r)
	}
	return &e.batch, e.commit(nil)
}

// record adds the frames of one record.
func (e *encoder) record(r Record) {
	if r.Unreadable {
		e.add(Message{head: frame(frameHead{kind: r.Kind, uid: r.UID, name: r.Name, unreadable: true}, 0)})
		return
	}
	for offset := 0; ; offset += maxFrameBytes {
		part := r.Bytes[offset:min(offset+maxFrameBytes, len(r.Bytes))]
		last := offset+len(part) == len(r.Bytes)
		h := frameHead{kind: r.Kind, uid: r.UID, offset: offset, last: last}
		e.add(Message{head: frame(h, len(part)), body: part})
		if last {
			return
		}
	}
}

type frameHead struct {
	kind, uid, name           string
	offset                    int
	last, removed, unreadable bool
}

// Numbers of the fields of sync.v1.ConfigResponse and Frame; a test holds them to the descriptors.
const (
	fieldFrame      protowire.Number = 2
	fieldKind       protowire.Number = 1
	fieldUID        protowire.Number = 2
	fieldOffset     protowire.Number = 3
	fieldLast       protowire.Number = 4
	fieldBytes      protowire.Number = 5
	fieldRemoved    protowire.Number = 6
	fieldUnreadable protowire.Number = 7
	fieldName       protowire.Number = 8
)

// frame encodes a frame up to its last field, bytes, whose n bytes follow without being copied.
func frame(h frameHead, n int) []byte {
	inner := make([]byte, 0, 32+len(h.kind)+len(h.uid)+len(h.name))
	inner = appendString(inner, fieldKind, h.kind)
	inner = appendString(inner, fieldUID, h.uid)
	if h.offset > 0 {
		inner = protowire.AppendTag(inner, fieldOffset, protowire.VarintType)
		inner = protowire.AppendVarint(inner, uint64(h.offset))
	}
	inner = appendTrue(inner, fieldLast, h.last)
	inner = appendTrue(inner, fieldRemoved, h.removed)
	inner = appendTrue(inner, fieldUnreadable, h.unreadable)
	inner = appendString(inner, fieldName, h.name)
	if n > 0 {
		inner = protowire.AppendTag(inner, fieldBytes, protowire.BytesType)
		inner = protowire.AppendVarint(inner, uint64(n))
	}
	out := make([]byte, 0, len(inner)+6)
	out = protowire.AppendTag(out, fieldFrame, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(len(inner)+n))
	return append(out, inner...)
}

func appendString(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendTrue(b []byte, n protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), 1)
}
