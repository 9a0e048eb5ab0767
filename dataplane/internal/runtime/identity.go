package runtime

import (
	"time"

	"keyward.dev/shared/check/certs"
)

// Identity is a certificate with which the gateway proves who it is to a target.
type Identity struct {
	// Reference is how the configuration names it: the name of the certificate, or the id of one of its versions.
	Reference string
	// Key is equal for equal identities. Only they share connections.
	Key string
	Set *certs.Set
}

// At returns the version that is used at a time, nil if none can be: it is not valid then, or its key is not there.
func (i *Identity) At(t time.Time) *certs.Version {
	v := i.Set.For(i.Reference, t)
	if v == nil || v.Key == nil || !v.ValidAt(t) {
		return nil
	}
	return v
}

// File is a place in files of this machine from which a certificate was read.
type File struct {
	At certs.Local
	// Certificate is the name of the certificate.
	Certificate string
	// Generation is that of what was read.
	Generation uint64
}
