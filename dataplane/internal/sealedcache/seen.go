package sealedcache

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"keyward.dev/shared/sealedset"
)

const (
	seenMagic = "KWSEEN\n\x01" // its last byte is the version
	// maxSeen bounds the file: a name of a few hundred bytes and fixed fields.
	maxSeen = 2048
)

// seen is what the second file holds: which file was written last. Whoever puts back an older one would have to put back
// this one, too.
type seen struct {
	// have was written; next was about to be. Zero is no file.
	have, next fileID
	// confirmed is when the control plane last stood behind have.
	confirmed time.Time
}

// marshal returns the file, authenticated as the owner's.
func (s seen) marshal(o *owner) []byte {
	b := sealedset.AppendField([]byte(seenMagic), []byte(o.id.String()))
	b = append(b, s.have[:]...)
	b = append(b, s.next[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.confirmed.UnixMilli()))
	return append(b, mac(o, b)...)
}

func mac(o *owner, b []byte) []byte {
	h := hmac.New(sha256.New, o.seen[:])
	h.Write(b)
	return h.Sum(nil)
}

var errSeen = errors.New("what says which cache was written last was not written by this key")

func parseSeen(o *owner, b []byte) (seen, error) {
	n := len(b) - sha256.Size
	if n < 0 || !hmac.Equal(b[n:], mac(o, b[:n])) || !bytes.HasPrefix(b, []byte(seenMagic)) {
		return seen{}, errSeen
	}
	p := sealedset.NewParser(b[len(seenMagic):n])
	id := string(p.Field())
	s := seen{have: fileID(p.Take(len(fileID{}))), next: fileID(p.Take(len(fileID{})))}
	s.confirmed = time.UnixMilli(int64(p.Uint64()))
	if !p.Done() || id != o.id.String() {
		return seen{}, errSeen
	}
	return s, nil
}

// readSeen reads the seen file.
func (c *Cache) readSeen(o *owner) (seen, error) {
	f, err := c.files.open(seenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return seen{}, refuse(sealedset.SeenMissing, "what says which cache was written last is gone")
	}
	if err != nil {
		return seen{}, refuse(sealedset.Unreadable, "%w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSeen))
	if err != nil {
		return seen{}, refuse(sealedset.Unreadable, "%w", err)
	}
	s, err := parseSeen(o, b)
	if err != nil {
		return seen{}, refuse(sealedset.SeenDamaged, "%w", err)
	}
	return s, nil
}

func (c *Cache) writeSeen(o *owner, s seen) error {
	err := c.files.replace(seenFile, func(w io.Writer) error {
		_, err := w.Write(s.marshal(o))
		return err
	})
	if err != nil {
		return fmt.Errorf("write which sealed cache is the last: %w", err)
	}
	return nil
}

// known returns the file that is there, if it may be opened.
func (c *Cache) known(o *owner) fileID {
	f, err := c.files.open(configFile)
	if err != nil {
		return fileID{}
	}
	defer f.Close()
	_, raw, err := readHeader(f)
	if err != nil {
		return fileID{}
	}
	id := fileID(sha256.Sum256(raw))
	if s, err := c.readSeen(o); err != nil || (id != s.have && id != s.next) {
		return fileID{}
	}
	return id
}
