// Package recovery is the backup of keyrings: all of them, sealed to the public half of a recovery key whose private half is
// kept offline, for the day on which the key-encryption key is lost. It is the form of the file and of the keys and does no
// I/O. Package sealer gives and takes keyrings, package app reads and writes files. A backup opens nothing without the
// recovery key, and with it everything that was stored until then.
//
// # Form
//
// A backup is one PEM block. In it are
//
//	format (1 byte) | time (8, milliseconds) | encapsulated key | ciphertext
//
// each of the last two with its length in front. The key is agreed upon by HPKE with HKDF-SHA-256 and the recovery key, which is
// ML-KEM-768 with P-256; the ciphertext is AES-256-GCM's with a random nonce, and what stands before it is authenticated with it.
// Inside are the keyrings: uid and name of the group, ring. Format 1 was HPKE's own encryption, which counts its nonces, and
// recovery keys had X25519: both are still read, and no longer made.
//
// Nobody signs a backup, since whoever could would need a key that is lost when it is needed: a keyring is taken only if it
// authenticates what the database says of its group.
package recovery

import (
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/shared/sealedset"
)

const (
	format    = 2
	purpose   = "keyward/keyring-backup/v1"
	pemBackup = "KEYWARD KEYRING BACKUP"

	// MaxSize bounds a backup: some hundred thousand groups.
	MaxSize = 256 << 20
)

var (
	// ErrMalformed says that a file is not what it should be.
	ErrMalformed = errors.New("malformed")
	// ErrOtherKey says that a backup does not open: it is sealed to another recovery key, or was altered.
	ErrOtherKey = errors.New("the backup does not open with this recovery key: it is sealed to another one, or was altered")
)

// Entry is the keyring of a group.
type Entry struct {
	UID, Group string
	Ring       *keyring.Ring
}

// Backup is what is in a file.
type Backup struct {
	At      time.Time
	Entries []Entry
}

// block reads a file that has one block of a type and nothing else.
func block(file []byte, kind string) (*pem.Block, error) {
	b, rest := pem.Decode(file)
	switch {
	case b == nil || len(rest) > 0:
		return nil, fmt.Errorf("file with %q: %w", kind, ErrMalformed)
	case b.Type != kind:
		return nil, fmt.Errorf("file has %q, not %q: %w", printable(b.Type), kind, ErrMalformed)
	}
	return b, nil
}

func printable(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}

// Seal makes a backup of keyrings.
func Seal(to Recipient, b Backup) ([]byte, error) {
	enc, aead, err := sealedset.SealTo(to.public, purpose)
	if err != nil {
		return nil, fmt.Errorf("seal keyrings: %w", err)
	}
	head := binary.BigEndian.AppendUint64([]byte{format}, uint64(b.At.UnixMilli()))
	head = appendField(head, enc)
	plain := marshal(b.Entries)
	defer clear(plain)
	sealed := aead.Seal(nil, nil, plain, head)
	return pem.EncodeToMemory(&pem.Block{Type: pemBackup, Bytes: appendField(head, sealed)}), nil
}

// marshal needs no second buffer, which nobody would clear.
func marshal(list []Entry) []byte {
	rings, size := make([][]byte, len(list)), 0
	for i, e := range list {
		rings[i] = e.Ring.Marshal()
		size += 3*4 + len(e.UID) + len(e.Group) + len(rings[i])
	}
	plain := make([]byte, 0, size)
	for i, e := range list {
		plain = appendField(appendField(appendField(plain, []byte(e.UID)), []byte(e.Group)), rings[i])
		clear(rings[i])
	}
	return plain
}

// Open opens a backup.
func Open(with Identity, file []byte) (Backup, error) {
	found, err := block(file, pemBackup)
	if err != nil {
		return Backup{}, err
	}
	b := found.Bytes
	const fixed = 1 + 8
	if len(b) < fixed || len(found.Headers) > 0 {
		return Backup{}, fmt.Errorf("backup of keyrings: %w", ErrMalformed)
	}
	if b[0] < 1 || b[0] > format {
		return Backup{}, fmt.Errorf("backup of keyrings is of format %d, this program knows %d: %w", b[0], format, ErrMalformed)
	}
	enc, rest, ok := takeField(b[fixed:])
	head := b[:len(b)-len(rest)]
	sealed, rest, sealedOK := takeField(rest)
	if !ok || !sealedOK || len(rest) > 0 {
		return Backup{}, fmt.Errorf("backup of keyrings: %w", ErrMalformed)
	}
	plain, err := with.open(b[0], purpose, enc, sealed, head)
	if err != nil {
		return Backup{}, err
	}
	defer clear(plain)
	out := Backup{At: time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:])))}
	out.Entries, err = entries(plain)
	return out, err
}

func entries(plain []byte) (out []Entry, err error) {
	for len(plain) > 0 {
		var fields [3][]byte
		for i := range fields {
			var ok bool
			if fields[i], plain, ok = takeField(plain); !ok {
				return nil, fmt.Errorf("backup of keyrings: %w", ErrMalformed)
			}
		}
		ring, err := keyring.Unmarshal(fields[2])
		if err != nil {
			return nil, fmt.Errorf("backup of keyrings: %w", err)
		}
		out = append(out, Entry{UID: string(fields[0]), Group: string(fields[1]), Ring: ring})
	}
	return out, nil
}

func appendField(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
}

func takeField(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}
