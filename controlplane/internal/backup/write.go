package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"keyward.dev/shared/sealedset"
)

// kinds of sections.
const (
	kindTable    = 'T'
	kindPart     = 'D'
	kindKeyrings = 'K'
	kindManifest = 'M'
)

// Writer writes a backup. Only Close makes it whole.
type Writer struct {
	header Header
	chunks *sealedset.SealWriter
	tables []Table
}

// Create begins a backup.
func Create(ctx context.Context, out io.Writer, o Options) (*Writer, error) {
	h, key, err := newHeader(ctx, o)
	if err != nil {
		return nil, err
	}
	head, err := appendHeader(h, key)
	if err != nil {
		return nil, err
	}
	if _, err := out.Write(head); err != nil {
		return nil, fmt.Errorf("write header: %w", err)
	}
	w := &Writer{header: h}
	w.chunks, err = newChunks(key, head, func(key sealedset.Secret, aad []byte) (*sealedset.SealWriter, error) {
		return sealedset.NewSealWriter(out, key, aad)
	})
	return w, err
}

// newChunks binds a stream to the header.
func newChunks[T any](key sealedset.Secret, head []byte, make func(sealedset.Secret, []byte) (T, error)) (T, error) {
	var none T
	k, err := sealedset.Derive(key[:], purposeChunks)
	if err != nil {
		return none, err
	}
	sum := sha256.Sum256(head)
	return make(k, sum[:])
}

// Header is what stands at the beginning.
func (w *Writer) Header() Header { return w.header }

// Table writes a table: fill writes its content and answers how many rows that is.
func (w *Writer) Table(name string, columns []string, fill func(out io.Writer) (int64, error)) error {
	t := Table{Name: name, Columns: columns}
	begin, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("marshal table %s: %w", name, err)
	}
	if err := w.section(kindTable, begin); err != nil {
		return err
	}
	p := &parts{writer: w, sum: sha256.New(), buffer: make([]byte, 0, partSize)}
	if t.Rows, err = fill(p); err != nil {
		return fmt.Errorf("write table %s: %w", name, err)
	}
	if err := p.flush(); err != nil {
		return err
	}
	t.Bytes, t.SHA256 = p.n, p.sum.Sum(nil)
	w.tables = append(w.tables, t)
	return nil
}

// Keyrings writes the keyrings, sealed to the recovery key.
func (w *Writer) Keyrings(sealed []byte) error { return w.section(kindKeyrings, sealed) }

// Close writes the manifest, of which the caller need not know the tables, and answers it.
func (w *Writer) Close(m Manifest) (Manifest, error) {
	m.Tables = w.tables
	b, err := json.Marshal(m)
	if err != nil {
		return m, fmt.Errorf("marshal manifest: %w", err)
	}
	if err := w.section(kindManifest, b); err != nil {
		return m, err
	}
	if err := w.chunks.Close(); err != nil {
		return m, fmt.Errorf("write backup: %w", err)
	}
	return m, nil
}

func (w *Writer) section(kind byte, content []byte) error {
	if len(content) > maxSection {
		return fmt.Errorf("write backup: a section is larger than %d bytes", maxSection)
	}
	_, err := w.chunks.Write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(content))))
	if err == nil {
		_, err = w.chunks.Write(content)
	}
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// parts gathers what a table consists of.
type parts struct {
	writer *Writer
	sum    hash.Hash
	buffer []byte
	n      int64
}

// Write implements io.Writer.
func (p *parts) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	p.sum.Write(b)
	for rest := b; len(rest) > 0; {
		n := min(len(rest), partSize-len(p.buffer))
		p.buffer = append(p.buffer, rest[:n]...)
		rest = rest[n:]
		if len(p.buffer) == partSize {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

func (p *parts) flush() error {
	if len(p.buffer) == 0 {
		return nil
	}
	err := p.writer.section(kindPart, p.buffer)
	p.buffer = p.buffer[:0]
	return err
}
