package sealedcache

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"keyward.dev/dataplane/internal/state"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

const (
	// maxName bounds kinds, uids and names, maxRecord a record's bytes; the folder's own limits are below these.
	maxName   = 64 << 10
	maxRecord = 64 << 20
	// trustedLength is up to what length a length is believed before the bytes are there.
	trustedLength = 64 << 10
)

var errRecord = errors.New("a record does not parse")

// writeRecords writes every record of the set with the bytes it came in: kind, uid, whether it is unreadable, and then its
// name or its bytes, each with its length before it. An empty kind is the end.
func writeRecords(w *bufio.Writer, set *state.Set) error {
	for _, kind := range set.Kinds() {
		for r := range set.All(kind) {
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
	}
	putField(w, nil)
	return w.Flush()
}

func putField(w *bufio.Writer, b []byte) {
	_, _ = w.Write(binary.AppendUvarint(w.AvailableBuffer(), uint64(len(b))))
	_, _ = w.Write(b)
}

// readRecords folds records as if they had been streamed, so that a cache is held to everything that a stream is.
func readRecords(r *bufio.Reader, h *header, limits state.Limits) (*state.Set, error) {
	folder := state.NewFolder(state.Empty(), limits)
	begin := &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Begin{Begin: &syncv1.Begin{Reset_: true, Epoch: h.epoch}}}
	if _, err := folder.Fold(begin); err != nil {
		return nil, refuse(Damaged, "%w", err)
	}
	for {
		frame, err := readFrame(r)
		if err != nil {
			return nil, refuse(Damaged, "%w", err)
		}
		if frame == nil {
			break
		}
		if _, err := folder.Fold(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Frame{Frame: frame}}); err != nil {
			return nil, refuse(Damaged, "%w", err)
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, refuse(Damaged, "it does not end after its last record")
	}
	commit := &syncv1.Commit{Epoch: h.epoch, Revision: h.revision, Digest: h.digest[:]}
	set, err := folder.Fold(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Commit{Commit: commit}})
	if err != nil {
		return nil, refuse(Digest, "%w", err)
	}
	return set, nil
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
