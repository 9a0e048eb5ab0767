package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"keyward.dev/shared/sealedset"
)

// Reader reads a backup.
type Reader struct {
	header Header
	in     *bufio.Reader // of what the chunks hold
	tables []Table
}

// Open reads the header and proves that the keys fit it.
func Open(ctx context.Context, in io.Reader, keys Keys) (*Reader, error) {
	h, head, mac, err := readHeader(in)
	if err != nil {
		return nil, err
	}
	key, err := keys.open(ctx, h, head, mac)
	if err != nil {
		return nil, err
	}
	chunks, err := newChunks(key, append(head, mac...), func(key sealedset.Secret, aad []byte) (*sealedset.OpenReader, error) {
		return sealedset.NewOpenReader(in, key, aad)
	})
	if err != nil {
		return nil, err
	}
	return &Reader{header: h, in: bufio.NewReader(chunks)}, nil
}

// Header is what stands at the beginning; it is authentic.
func (r *Reader) Header() Header { return r.header }

// Contents are what a backup holds beside its tables.
type Contents struct {
	Manifest
	// Keyrings are sealed to the recovery key.
	Keyrings []byte
}

// Each hands every table to take, which reads what it likes of it, and answers what else there is when all of it has been read,
// held against the manifest, and nothing is missing. What take has done before must be undone if Each fails.
func (r *Reader) Each(take func(name string, columns []string, content io.Reader) error) (Contents, error) {
	var c Contents
	for {
		kind, content, err := r.section()
		if err != nil {
			return c, err
		}
		switch kind {
		case kindTable:
			err = r.table(content, take)
		case kindKeyrings:
			c.Keyrings = content
		case kindManifest:
			c.Manifest, err = r.manifest(content)
			if err == nil && len(c.Keyrings) == 0 {
				err = ErrMalformed
			}
			return c, err
		default:
			err = ErrMalformed
		}
		if err != nil {
			return c, err
		}
	}
}

func (r *Reader) table(begin []byte, take func(string, []string, io.Reader) error) error {
	var t Table
	if err := strict(begin, &t); err != nil || slices.ContainsFunc(r.tables, func(o Table) bool { return o.Name == t.Name }) {
		return ErrMalformed
	}
	content := &content{reader: r, sum: sha256.New()}
	if err := take(t.Name, t.Columns, content); err != nil {
		if content.err != nil {
			return content.err // what was taken for the end, or a fault of the taker, was a fault of the file
		}
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	t.Bytes, t.SHA256 = content.n, content.sum.Sum(nil)
	r.tables = append(r.tables, t)
	return nil
}

// manifest holds what was read against what there should be.
func (r *Reader) manifest(b []byte) (Manifest, error) {
	var m Manifest
	if err := strict(b, &m); err != nil {
		return m, ErrMalformed
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return m, ErrMalformed
	}
	same := slices.EqualFunc(m.Tables, r.tables, func(a, b Table) bool {
		return a.Name == b.Name && slices.Equal(a.Columns, b.Columns) && a.Bytes == b.Bytes && bytes.Equal(a.SHA256, b.SHA256)
	})
	if !same {
		return m, fmt.Errorf("%w: it does not hold what its manifest says", ErrMalformed)
	}
	return m, nil
}

// section reads a section that is not part of a table.
func (r *Reader) section() (kind byte, content []byte, err error) {
	kind, n, err := r.next()
	if err != nil {
		return 0, nil, err
	}
	var b bytes.Buffer // grows with what there is, not with what is promised
	if _, err := io.CopyN(&b, r.in, int64(n)); err != nil {
		return 0, nil, ErrMalformed
	}
	return kind, b.Bytes(), nil
}

func (r *Reader) next() (kind byte, n uint32, err error) {
	var begin [5]byte
	if _, err := io.ReadFull(r.in, begin[:]); err != nil {
		return 0, 0, ErrMalformed
	}
	n = binary.BigEndian.Uint32(begin[1:])
	if n > maxSection {
		return 0, 0, ErrMalformed
	}
	return begin[0], n, nil
}

// content is what a table consists of.
type content struct {
	reader *Reader
	sum    hash.Hash
	left   uint32 // of the part that is being read
	n      int64
	err    error // what was wrong with the file
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	for c.left == 0 {
		kind, err := c.reader.in.Peek(1)
		if err != nil {
			c.err = ErrMalformed
			return 0, c.err
		}
		if kind[0] != kindPart {
			return 0, io.EOF
		}
		if _, c.left, c.err = c.reader.next(); c.err != nil {
			return 0, c.err
		}
	}
	n, err := c.reader.in.Read(p[:min(len(p), int(c.left))])
	if err != nil {
		c.err = ErrMalformed
		return 0, c.err
	}
	c.left -= uint32(n)
	c.n += int64(n)
	c.sum.Write(p[:n])
	return n, nil
}
