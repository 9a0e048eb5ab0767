package sealedset

import (
	"bufio"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
)

// ChunkSize is how much is sealed at once: small against a configuration, large against a tag.
const ChunkSize = 64 << 10

var errChunk = errors.New("a chunk does not open: it was altered, moved or cut off")

// chunks numbers and seals chunks, as STREAM does (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the chunk's number and
// whether it is the last are bound to it, so chunks can be neither exchanged, repeated nor left out, at the end either. They
// are so as associated data and not as the nonce, which is random: FIPS 140-3 approves of no other.
type chunks struct {
	aead cipher.AEAD
	aad  []byte // of the whole, then room for the place of a chunk
	n    uint64
}

const placeSize = 8 + 1

func newChunks(key Secret, aad []byte) (chunks, error) {
	aead, err := randomGCM(key)
	if err != nil {
		return chunks{}, err
	}
	return chunks{aead: aead, aad: append(append(make([]byte, 0, len(aad)+placeSize), aad...), make([]byte, placeSize)...)}, nil
}

// bound is the associated data of the next chunk.
func (c *chunks) bound(last bool) []byte {
	place := c.aad[len(c.aad)-placeSize:]
	binary.BigEndian.PutUint64(place, c.n)
	if c.n++; last {
		place[placeSize-1] = 1
	}
	return c.aad
}

// SealWriter seals what is written to it. Only Close makes it complete.
type SealWriter struct {
	chunks chunks
	out    io.Writer
	plain  []byte // less than a chunk, or one that may be the last
	sealed []byte
}

// NewSealWriter seals under a key that is used for nothing else, and binds every chunk to aad.
func NewSealWriter(out io.Writer, key Secret, aad []byte) (*SealWriter, error) {
	c, err := newChunks(key, aad)
	if err != nil {
		return nil, err
	}
	return &SealWriter{chunks: c, out: out, plain: make([]byte, 0, ChunkSize), sealed: make([]byte, 0, ChunkSize+c.aead.Overhead())}, nil
}

// Write implements io.Writer.
func (w *SealWriter) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if len(w.plain) == ChunkSize {
			if err := w.seal(false); err != nil {
				return 0, err
			}
		}
		n := min(len(p), ChunkSize-len(w.plain))
		w.plain = append(w.plain, p[:n]...)
		p = p[n:]
	}
	return written, nil
}

// Close seals the last chunk. It does not close what is written to.
func (w *SealWriter) Close() error { return w.seal(true) }

func (w *SealWriter) seal(last bool) error {
	w.sealed = w.chunks.aead.Seal(w.sealed[:0], nil, w.plain, w.chunks.bound(last))
	w.plain = w.plain[:0]
	_, err := w.out.Write(w.sealed)
	return err
}

// OpenReader gives what a SealWriter was given. Its EOF says that nothing is missing.
type OpenReader struct {
	chunks chunks
	in     *bufio.Reader
	sealed []byte
	plain  []byte
	last   bool
}

// NewOpenReader opens what was sealed under the key, bound to aad.
func NewOpenReader(in io.Reader, key Secret, aad []byte) (*OpenReader, error) {
	c, err := newChunks(key, aad)
	if err != nil {
		return nil, err
	}
	size := ChunkSize + c.aead.Overhead()
	return &OpenReader{chunks: c, in: bufio.NewReaderSize(in, size), sealed: make([]byte, size)}, nil
}

// Read implements io.Reader.
func (r *OpenReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.last {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

func (r *OpenReader) next() error {
	n, err := io.ReadFull(r.in, r.sealed)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return errChunk
	}
	_, err = r.in.Peek(1)
	r.last = err != nil
	if r.plain, err = r.chunks.aead.Open(r.sealed[:0], nil, r.sealed[:n], r.chunks.bound(r.last)); err != nil {
		return errChunk
	}
	return nil
}
