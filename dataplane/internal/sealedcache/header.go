package sealedcache

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"keyward.dev/shared/digest"
	"keyward.dev/shared/sealedset"
)

const (
	magic   = "KWCACHE\n"
	version = 3
	// prefixSize is magic, version and the length of what follows.
	prefixSize = len(magic) + 2 + 2
	// maxHeader bounds a header: two names of at most a few hundred bytes, two keys, fixed fields.
	maxHeader = 4096
)

// fileID is the hash of a header; headers hold random, so no two files have the same.
type fileID [sha256.Size]byte

// header stands in the clear before the records, and every chunk of them is bound to it.
type header struct {
	group, gateway string
	keyHash        [sha256.Size]byte
	epoch          uint64
	revision       int64
	digest         [digest.Size]byte
	written        time.Time
	// enc and wrapped are the data key, wrapped to the gateway's key.
	enc, wrapped []byte
}

var errHeader = errors.New("its header does not parse")

// core is the header without the wrapped key, which is bound to it.
func (h *header) core() []byte {
	b := sealedset.AppendField(nil, []byte(h.group))
	b = sealedset.AppendField(b, []byte(h.gateway))
	b = append(b, h.keyHash[:]...)
	b = binary.BigEndian.AppendUint64(b, h.epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(h.revision))
	b = append(b, h.digest[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(h.written.UnixMilli()))
}

// marshal returns the header as it stands in the file.
func (h *header) marshal() []byte {
	body := sealedset.AppendField(sealedset.AppendField(h.core(), h.enc), h.wrapped)
	b := binary.BigEndian.AppendUint16([]byte(magic), version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// readHeader reads a header and returns it with its bytes.
func readHeader(r io.Reader) (*header, []byte, error) {
	raw := make([]byte, prefixSize)
	if _, err := io.ReadFull(r, raw); err != nil || string(raw[:len(magic)]) != magic {
		return nil, nil, refuse(sealedset.Damaged, "it does not begin as a cache does")
	}
	if v := binary.BigEndian.Uint16(raw[len(magic):]); v != version {
		return nil, nil, refuse(sealedset.Version, "it is of version %d, this program knows %d", v, version)
	}
	n := int(binary.BigEndian.Uint16(raw[prefixSize-2:]))
	if n > maxHeader {
		return nil, nil, refuse(sealedset.Damaged, "a header of %d bytes", n)
	}
	raw = append(raw, make([]byte, n)...)
	if _, err := io.ReadFull(r, raw[prefixSize:]); err != nil {
		return nil, nil, refuse(sealedset.Damaged, "it ends in its header")
	}
	h, err := parseHeader(raw[prefixSize:])
	if err != nil {
		return nil, nil, refuse(sealedset.Damaged, "%w", err)
	}
	return h, raw, nil
}

func parseHeader(body []byte) (*header, error) {
	p := sealedset.NewParser(body)
	h := &header{group: string(p.Field()), gateway: string(p.Field())}
	copy(h.keyHash[:], p.Take(len(h.keyHash)))
	h.epoch, h.revision = p.Uint64(), int64(p.Uint64())
	copy(h.digest[:], p.Take(len(h.digest)))
	h.written = time.UnixMilli(int64(p.Uint64()))
	h.enc, h.wrapped = p.Field(), p.Field()
	if !p.Done() {
		return nil, errHeader
	}
	return h, nil
}
