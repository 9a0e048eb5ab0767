package store

import (
	"crypto/rand"
	"fmt"
)

// NewUID draws a uid: a version 4 UUID (RFC 9562) in lower case.
func NewUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
