package httpsig

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"

	"keyward.dev/dataplane/internal/exchange"
)

// ErrDigest says that a digest is not that of the body.
var ErrDigest = errors.New("the digest is not that of the body")

// ContentDigest checks the body against the field Content-Digest (RFC 9530): every digest in it by SHA-256 or SHA-512 has to
// be the body's, and there has to be one. Others say nothing here.
func ContentDigest(m *Message, body []byte, mem Memory) error {
	text, ok, err := m.combined("Content-Digest", mem)
	if err != nil || !ok {
		return absent(err)
	}
	s := scanner{in: text, out: builder{mem: mem}}
	checked := 0
	for {
		name, err := s.key()
		if err != nil {
			return err
		}
		s.out.b = s.out.b[:0]
		if err := s.assigned(); err != nil {
			return err
		}
		n, known := digestBytes(name)
		if known {
			text := s.out.b
			if len(text) < 2 || text[0] != ':' || text[len(text)-1] != ':' {
				return ErrMalformed
			}
			if err := compare(text[1:len(text)-1], n, body, mem); err != nil {
				return err
			}
			checked++
		}
		if more, err := s.comma(); err != nil {
			return err
		} else if !more {
			break
		}
	}
	if checked == 0 {
		return ErrAbsent
	}
	return nil
}

// LegacyDigest checks the body against the field Digest (RFC 3230), which RFC 9530 has replaced.
func LegacyDigest(m *Message, body []byte, mem Memory) error {
	text, ok, err := m.combined("Digest", mem)
	if err != nil || !ok {
		return absent(err)
	}
	checked := 0
	for more := true; more; {
		var one []byte
		one, text, more = bytes.Cut(text, []byte(","))
		name, val, _ := bytes.Cut(trim(one), []byte("="))
		n, known := digestBytes(name)
		if !known {
			continue
		}
		if err := compare(val, n, body, mem); err != nil {
			return err
		}
		checked++
	}
	if checked == 0 {
		return ErrAbsent
	}
	return nil
}

func absent(err error) error {
	if err != nil {
		return err
	}
	return ErrAbsent
}

// digestBytes is the length of the digests by an algorithm that counts.
func digestBytes(name []byte) (int, bool) {
	switch {
	case exchange.EqualFold(name, "sha-256"):
		return sha256.Size, true
	case exchange.EqualFold(name, "sha-512"):
		return sha512.Size, true
	}
	return 0, false
}

// compare needs no constant time: whoever sees the digest could compute it.
func compare(text []byte, n int, body []byte, mem Memory) error {
	want, err := decoded(text, mem)
	if err != nil {
		return err
	}
	same := false
	if n == sha256.Size {
		sum := sha256.Sum256(body)
		same = bytes.Equal(sum[:], want)
	} else {
		sum := sha512.Sum512(body)
		same = bytes.Equal(sum[:], want)
	}
	if !same {
		return ErrDigest
	}
	return nil
}
