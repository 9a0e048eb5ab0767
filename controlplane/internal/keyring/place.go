package keyring

import (
	"encoding/binary"
	"fmt"
)

// Place is where a ciphertext belongs. It is authenticated, not stored.
type Place struct {
	// Purpose is the table, or the use within it.
	Purpose string
	// Group is the uid of the group.
	Group string
	Kind  string
	UID   string
	// Revision is 0 where there is none.
	Revision int64
}

// String names the place for errors.
func (p Place) String() string {
	switch {
	case p.Kind != "":
		return fmt.Sprintf("%s %s %s at revision %d", p.Purpose, p.Kind, p.UID, p.Revision)
	case p.UID != "":
		return fmt.Sprintf("%s %s", p.Purpose, p.UID)
	}
	return fmt.Sprintf("%s at revision %d", p.Purpose, p.Revision)
}

func (p Place) appendTo(b []byte) []byte {
	for _, part := range []string{p.Purpose, p.Group, p.Kind, p.UID} {
		b = appendPrefixed(b, part)
	}
	return binary.BigEndian.AppendUint64(b, uint64(p.Revision))
}

// appendPrefixed puts the length in front, so that no two lists of parts give the same bytes.
func appendPrefixed[T string | []byte](b []byte, part T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
	return append(b, part...)
}

// takePrefixed is the reverse of appendPrefixed.
func takePrefixed(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}
