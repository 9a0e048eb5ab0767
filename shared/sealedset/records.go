package sealedset

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

const (
	// maxName bounds kinds, uids and names, maxRecord a record's bytes; whoever folds has limits below these.
	maxName   = 64 << 10
	maxRecord = 64 << 20
	// trustedLength is up to what length a length is believed before the bytes are there.
	trustedLength = 64 << 10
)

var (
	errRecord = errors.New("a record does not parse")
	errTail   = errors.New("it does not end after its last record")
)

// Record is one resource of a set. One without bytes could not be read by the control plane, and has a name if that is known.
type Record struct {
	Kind, UID, Name string
	Bytes           []byte
}

// WriteRecords writes every record with the bytes it came in: kind, uid, whether it is unreadable, and then its name or its
// bytes, each with its length before it. An empty kind is the end.
func WriteRecords(out io.Writer, records iter.Seq[Record]) error {
	w := bufio.NewWriterSize(out, ChunkSize)
	for r := range records {
		putField(w, []byte(r.Kind))
		putField(w, []byte(r.UID))
		if r.Bytes == nil {
			_ = w.WriteByte(1) // bufio keeps the first error for Flush
			putField(w, []byte(r.Name))
			continue
		}
		_ = w.WriteByte(0)
		putField(w, r.Bytes)
	}
	putField(w, nil)
	return w.Flush()
}

func putField(w *bufio.Writer, b []byte) {
	_, _ = w.Write(binary.AppendUvarint(w.AvailableBuffer(), uint64(len(b))))
	_, _ = w.Write(b)
}

// ReadRecords yields the records as frames that are the whole of each, so that a file can be folded like a stream and is
// held to everything that a stream is. The last error says that the input is not what WriteRecords wrote, or fold's.
func ReadRecords(in io.Reader, fold func(*syncv1.Frame) error) error {
	r := bufio.NewReaderSize(in, ChunkSize)
	for {
		frame, err := readFrame(r)
		if err != nil {
			return err
		}
		if frame == nil {
			break
		}
		if err := fold(frame); err != nil {
			return err
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return errTail
	}
	return nil
}

// readFrame returns the next record as a frame that is the whole of it, nil at the end.
func readFrame(r *bufio.Reader) (*syncv1.Frame, error) {
	kind, err := readField(r, maxName)
	if err != nil || len(kind) == 0 {
		return nil, err
	}
	uid, err := readField(r, maxName)
	if err != nil {
		return nil, err
	}
	unreadable, err := r.ReadByte()
	if err != nil || unreadable > 1 {
		return nil, errRecord
	}
	f := &syncv1.Frame{Kind: string(kind), Uid: string(uid)}
	if unreadable == 1 {
		name, err := readField(r, maxName)
		f.Name, f.Unreadable = string(name), true
		return f, err
	}
	f.Bytes, err = readField(r, maxRecord)
	f.Last = true
	return f, err
}

// readField returns bytes that nobody else holds. A long one is read as it comes, so that its length alone takes no memory.
func readField(r *bufio.Reader, most uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if n > most {
		return nil, errRecord
	}
	if n > trustedLength {
		var b bytes.Buffer
		if _, err := io.CopyN(&b, r, int64(n)); err != nil {
			return nil, fmt.Errorf("%w: %w", errRecord, err)
		}
		return bytes.Clone(b.Bytes()), nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	return b, nil
}
