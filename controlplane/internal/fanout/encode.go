package fanout

import (
	"fmt"
	"time"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// maxFrameBytes is how much of a record goes into one frame; with its envelope a frame stays below 256 KiB.
const maxFrameBytes = 240 << 10

// Message is an encoded sync.v1.ConfigResponse. The body is shared with the record it came from.
type Message struct {
	// head begins with what stands before the message in a batch.
	head, body []byte
	prefix     uint8
}

// newMessage makes a message of its encoded head, which has room for the prefix, and its body.
func newMessage(head, body []byte) Message {
	inner := head[maxPrefix:]
	var prefix [maxPrefix]byte
	p := protowire.AppendVarint(protowire.AppendTag(prefix[:0], fieldMessages, protowire.BytesType), uint64(len(inner)+len(body)))
	copy(head[maxPrefix-len(p):], p)
	return Message{head: head[maxPrefix-len(p):], body: body, prefix: uint8(len(p))}
}

// maxPrefix is how long the prefix may be: a tag and a length below 2^28.
const maxPrefix = 5

// Encode encodes a message that is not part of the fan-out.
func Encode(m *syncv1.ConfigResponse) (Message, error) {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, maxPrefix), m)
	if err != nil {
		return Message{}, err
	}
	return newMessage(b, nil), nil
}

// Size returns the number of bytes.
func (m Message) Size() int { return len(m.head) - int(m.prefix) + len(m.body) }

// Pack is an encoded sync.v1.ConfigResponse with a batch of messages. All streams share it.
type Pack struct{ data mem.BufferSlice }

const (
	// packBytes is how large a pack is, unless one message is larger.
	packBytes = 64 << 10
	// flatBytes is up to which size a pack is one piece of memory: that of an ordinary change.
	flatBytes = 8 << 10
)

// pack puts messages that follow each other into as few packs as is good.
func pack(messages []Message) []Pack {
	var packs []Pack
	for len(messages) > 0 {
		n, size := 0, 0
		for n < len(messages) && (n == 0 || size+messages[n].batched() <= packBytes) {
			size += messages[n].batched()
			n++
		}
		packs = append(packs, newPack(messages[:n], size))
		messages = messages[n:]
	}
	return packs
}

// batched is the size in a batch.
func (m Message) batched() int { return len(m.head) + len(m.body) }

// overhead is roughly what the pack takes beside the messages.
func (p *Pack) overhead() int64 {
	if len(p.data) == 1 {
		return int64(p.data[0].Len())
	}
	return int64(len(p.data)) * 40
}

func newPack(messages []Message, size int) Pack {
	head := protowire.AppendTag(make([]byte, 0, 8), fieldBatch, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(size))
	if size <= flatBytes {
		flat := append(make([]byte, 0, len(head)+size), head...)
		for _, m := range messages {
			flat = append(append(flat, m.head...), m.body...)
		}
		return Pack{data: mem.BufferSlice{mem.SliceBuffer(flat)}}
	}
	data := append(make(mem.BufferSlice, 0, 1+2*len(messages)), mem.SliceBuffer(head))
	for _, m := range messages {
		if data = append(data, mem.SliceBuffer(m.head)); len(m.body) > 0 {
			data = append(data, mem.SliceBuffer(m.body))
		}
	}
	return Pack{data: data}
}

// Codec is the server's codec: it sends a *Message or *Pack as it is, and everything else as protobuf.
type Codec struct{ proto encoding.CodecV2 }

// NewCodec returns the codec; it belongs into grpc.ForceServerCodecV2.
func NewCodec() Codec { return Codec{proto: encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *Pack:
		return m.data, nil
	case *Message:
		head := m.head[m.prefix:]
		if len(m.body) == 0 {
			return mem.BufferSlice{mem.SliceBuffer(head)}, nil
		}
		return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(m.body)}, nil
	default:
		return c.proto.Marshal(v)
	}
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
	// Packs are the same messages in batches.
	Packs []Pack
	size  int64
}

type encoder struct {
	batch Batch
	// within is the time over which gateways spread their answers.
	within time.Duration
}

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
	if e.within > 0 {
		c.AcknowledgeWithin = durationpb.New(e.within)
	}
	err := e.message(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Commit{Commit: c}})
	e.batch.Packs = pack(e.batch.Messages)
	for i := range e.batch.Packs {
		e.batch.size += e.batch.Packs[i].overhead()
	}
	return err
}

func encodeChange(from int64, c Change, within time.Duration) (*Batch, error) {
	e := encoder{within: within, batch: Batch{CommittedAt: c.CommittedAt, To: Position{Epoch: c.Epoch, Revision: c.Revision, Digest: c.Digest}}}
	if err := e.begin(&syncv1.Begin{Epoch: c.Epoch, FromRevision: from}); err != nil {
		return nil, err
	}
	for _, r := range c.Removes {
		e.add(newMessage(frame(frameHead{kind: r.Kind, uid: r.UID, removed: true}, 0), nil))
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

func encodeSnapshot(s Snapshot, within time.Duration) (*Batch, error) {
	e := encoder{within: within, batch: Batch{Reset: true, To: Position{Epoch: s.Epoch, Revision: s.Revision, Digest: s.Digest}}}
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
		e.add(newMessage(frame(frameHead{kind: r.Kind, uid: r.UID, name: r.Name, unreadable: true}, 0), nil))
		return
	}
	for offset := 0; ; offset += maxFrameBytes {
		part := r.Bytes[offset:min(offset+maxFrameBytes, len(r.Bytes))]
		last := offset+len(part) == len(r.Bytes)
		h := frameHead{kind: r.Kind, uid: r.UID, offset: offset, last: last}
		e.add(newMessage(frame(h, len(part)), part))
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

// Numbers of the fields of sync.v1.ConfigResponse, Batch and Frame; a test holds them to the descriptors.
const (
	fieldFrame      protowire.Number = 2
	fieldBatch      protowire.Number = 7
	fieldMessages   protowire.Number = 1
	fieldKind       protowire.Number = 1
	fieldUID        protowire.Number = 2
	fieldOffset     protowire.Number = 3
	fieldLast       protowire.Number = 4
	fieldBytes      protowire.Number = 5
	fieldRemoved    protowire.Number = 6
	fieldUnreadable protowire.Number = 7
	fieldName       protowire.Number = 8
)

// frame encodes a frame up to its last field, bytes, whose n bytes follow without being copied, with room for a prefix.
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
	out := make([]byte, maxPrefix, maxPrefix+len(inner)+6)
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
