package sealedcache

import (
	"bytes"
	"crypto"
	"time"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/sealedset"
)

// Write writes at once what Keep leaves to Run.
func (c *Cache) Write() { c.flush() }

// OnStep has f told before each step of a write.
func (c *Cache) OnStep(f func(name string)) { c.files.step = f }

// Seal returns a file of the set.
func Seal(id mtls.ID, signer crypto.Signer, set *state.Set, at time.Time) ([]byte, error) {
	o, err := newOwner(id, signer)
	if err != nil {
		return nil, err
	}
	s, err := newSealed(o, set, at)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = s.writeTo(&b)
	return b.Bytes(), err
}

// Forge returns a file as somebody would make it who knows the public key only.
func Forge(id mtls.ID, signer crypto.Signer, set *state.Set, at time.Time) ([]byte, error) {
	o, err := newOwner(id, signer)
	if err != nil {
		return nil, err
	}
	o.bind = sealedset.Secret{}
	s, err := newSealed(o, set, at)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = s.writeTo(&b)
	return b.Bytes(), err
}

// SeenOf returns a seen file that names the file.
func SeenOf(id mtls.ID, signer crypto.Signer, file []byte, confirmed time.Time) ([]byte, error) {
	o, err := newOwner(id, signer)
	if err != nil {
		return nil, err
	}
	_, raw, err := readHeader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return seen{have: (&sealed{header: raw}).id(), confirmed: confirmed}.marshal(o), nil
}

// ReadHeader parses the beginning of a file and gives it back as it is written.
func ReadHeader(b []byte) (again []byte, err error) {
	h, raw, err := readHeader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if again = h.marshal(); !bytes.Equal(again, raw) {
		panic("a header that reads as another one")
	}
	return again, nil
}

// ReadRecords reads what is inside a file.
func ReadRecords(b []byte, epoch uint64, revision int64, digest [32]byte, limits state.Limits) (*state.Set, error) {
	return readRecords(bytes.NewReader(b), &header{epoch: epoch, revision: revision, digest: digest}, limits)
}

// WriteRecords returns what is inside a file.
func WriteRecords(set *state.Set) []byte {
	var b bytes.Buffer
	_ = sealedset.WriteRecords(&b, recordsOf(set))
	return b.Bytes()
}

// Secret returns a key, to be printed.
func Secret() any { return sealedset.Secret{1, 2, 3} }

// Opener returns how the owner opens a file, without a look at what was seen.
func Opener(id mtls.ID, signer crypto.Signer) (func(file []byte) (*state.Set, error), error) {
	o, err := newOwner(id, signer)
	return func(file []byte) (*state.Set, error) {
		in := bytes.NewReader(file)
		h, raw, err := readHeader(in)
		if err != nil {
			return nil, err
		}
		return openRecords(o, h, raw, in, state.Limits{})
	}, err
}
