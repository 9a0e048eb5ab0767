package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// MACSize is the length of a MAC: the number of the term and an HMAC-SHA-256.
const MACSize = 4 + sha256.Size

// MAC authenticates parts for a purpose, with the newest term. Keys of different purposes are independent.
func (r *Ring) MAC(purpose string, parts ...[]byte) []byte {
	return r.newest().sum(purpose, parts)
}

// VerifyMAC reports whether mac is that of the parts for the purpose, under any term the ring ever had.
func (r *Ring) VerifyMAC(mac []byte, purpose string, parts ...[]byte) bool {
	if len(mac) != MACSize {
		return false
	}
	t := r.find(binary.BigEndian.Uint32(mac))
	return t != nil && hmac.Equal(mac, t.sum(purpose, parts))
}

func (t *term) sum(purpose string, parts [][]byte) []byte {
	derive := hmac.New(sha256.New, t.mac[:])
	derive.Write([]byte("keyward/mac/v1/" + purpose))
	h := hmac.New(sha256.New, derive.Sum(nil))
	var n [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return h.Sum(binary.BigEndian.AppendUint32(make([]byte, 0, MACSize), t.number))
}
