package mtls

import (
	"encoding/binary"
	"time"
)

// RenewalMessage is what a gateway signs with the key of its expired certificate to get a new one: a label, the
// certificate and the request, each with its length, and the time. The signature is ECDSA over its SHA-256.
func RenewalMessage(certificate, csr []byte, at time.Time) []byte {
	m := []byte("keyward-renew-v1")
	for _, part := range [][]byte{certificate, csr} {
		m = binary.BigEndian.AppendUint32(m, uint32(len(part)))
		m = append(m, part...)
	}
	return binary.BigEndian.AppendUint64(m, uint64(at.Unix()))
}
