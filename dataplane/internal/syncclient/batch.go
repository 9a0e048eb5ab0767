package syncclient

import (
	"bytes"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // is what codec embeds
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// codec is that of Protocol Buffers, with a shorter way for what a start has hundreds of thousands of.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*syncv1.ConfigResponse)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	if readBatch(buf.ReadOnlyData(), m) {
		return nil
	}
	return proto.Unmarshal(buf.ReadOnlyData(), m)
}

// Numbers of the fields of sync.v1.ConfigResponse, Batch and Frame.
const (
	fieldFrame    = 2
	fieldBatch    = 7
	fieldMessages = 1

	fieldKind   = 1
	fieldUID    = 2
	fieldOffset = 3
	fieldLast   = 4
	fieldBytes  = 5
	fieldName   = 8
)

// readBatch reads a batch of frames into an empty message, as proto.Unmarshal would, or leaves it empty and says that it is
// not one that is read here.
func readBatch(b []byte, m *syncv1.ConfigResponse) bool {
	inner, rest, ok := bytesOf(b, fieldBatch)
	if !ok || len(rest) > 0 {
		return false
	}
	n := 0
	for left := inner; len(left) > 0; n++ {
		if _, left, ok = bytesOf(left, fieldMessages); !ok {
			return false
		}
	}
	// All of a batch are garbage at the same time.
	all := make([]struct {
		response syncv1.ConfigResponse
		message  syncv1.ConfigResponse_Frame
		frame    syncv1.Frame
	}, n)
	batch := &syncv1.Batch{Messages: make([]*syncv1.ConfigResponse, n)}
	kind := ""
	for i := range all {
		one := &all[i]
		var message []byte
		message, inner, _ = bytesOf(inner, fieldMessages)
		message, rest, ok = bytesOf(message, fieldFrame)
		if !ok || len(rest) > 0 || !readFrame(message, &one.frame, kind) {
			return false
		}
		kind = one.frame.Kind
		one.message.Frame, one.response.Message = &one.frame, &one.message
		batch.Messages[i] = &one.response
	}
	m.Message = &syncv1.ConfigResponse_Batch{Batch: batch}
	return true
}

// bytesOf returns the value of a field that b begins with, and what follows it.
func bytesOf(b []byte, field protowire.Number) (value, rest []byte, ok bool) {
	number, wire, n := protowire.ConsumeTag(b)
	if n < 0 || number != field || wire != protowire.BytesType {
		return nil, nil, false
	}
	b = b[n:]
	value, n = protowire.ConsumeBytes(b)
	if n < 0 {
		return nil, nil, false
	}
	return value, b[n:], true
}

// readFrame reads a frame of a record, the kind of which is likely to be that of the last one. Removals and records that could
// not be opened are few.
func readFrame(b []byte, f *syncv1.Frame, kind string) bool {
	var texts [fieldName + 1][]byte
	var numbers [fieldName + 1]uint64
	for at := protowire.Number(0); len(b) > 0; {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 || number <= at { // each at most once, and in the order in which they are written
			return false
		}
		b, at = b[n:], number
		switch number {
		case fieldKind, fieldUID, fieldBytes, fieldName:
			if wire != protowire.BytesType {
				return false
			}
			texts[number], n = protowire.ConsumeBytes(b)
		case fieldOffset, fieldLast:
			if wire != protowire.VarintType {
				return false
			}
			numbers[number], n = protowire.ConsumeVarint(b)
		default:
			return false
		}
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	if f.Kind = kind; string(texts[fieldKind]) != kind {
		f.Kind = string(texts[fieldKind])
	}
	f.Offset, f.Last = int64(numbers[fieldOffset]), numbers[fieldLast] != 0
	f.Bytes = bytes.Clone(texts[fieldBytes])
	var ok [2]bool
	f.Uid, ok[0] = within(f.Bytes, texts[fieldUID])
	f.Name, ok[1] = within(f.Bytes, texts[fieldName])
	return ok == [2]bool{true, true} && utf8.ValidString(f.Kind)
}

// within returns text as a part of the bytes of a record, which has its name and uid in it and is not changed any more.
func within(record, text []byte) (string, bool) {
	if len(text) == 0 {
		return "", true
	}
	i := bytes.Index(record, text)
	if i < 0 || !utf8.Valid(text) {
		return "", false
	}
	return unsafe.String(&record[i], len(text)), true //nolint:gosec // see above
}
