package backup

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/shared/sealedset"
)

// purposes of the keys that are made out of the file's.
const (
	purposeHeader = "keyward/backup/v1 header"
	purposeChunks = "keyward/backup/v1 chunks"
)

// Options say for whom a backup is made, and when and by what.
type Options struct {
	At        time.Time
	Program   string
	KEK       Wrapper
	Recipient recovery.Recipient
}

// newHeader draws the file's key and wraps it. What the key-encryption key does not give back would be no proof.
func newHeader(ctx context.Context, o Options) (Header, sealedset.Secret, error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	h := Header{format: format, ID: hex.EncodeToString(id), At: o.At.UTC().Truncate(time.Millisecond), Program: o.Program, KEK: o.KEK.ID(), Recovery: o.Recipient.ID()}
	key := sealedset.NewSecret()
	var err error
	if h.Wrapped, err = o.KEK.Wrap(ctx, wrapContext(h.ID), key[:]); err != nil {
		return h, key, fmt.Errorf("wrap the backup's key: %w", err)
	}
	again, err := o.KEK.Unwrap(ctx, wrapContext(h.ID), h.Wrapped)
	if err != nil || !bytes.Equal(again, key[:]) {
		return h, key, fmt.Errorf("key-encryption key %s does not give back what it wraps: %w", o.KEK.ID(), errors.Join(ErrKey, err))
	}
	h.Encapsulated, h.Sealed, err = o.Recipient.WrapKey(key, wrapContext(h.ID))
	return h, key, err
}

func wrapContext(id string) []byte { return []byte("keyward/backup/v1 " + id) }

// appendHeader gives the beginning of the file, with its MAC.
func appendHeader(h Header, key sealedset.Secret) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("marshal header: %w", err)
	}
	b := append([]byte(magic), h.format)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
	mac, err := headerMAC(b, key)
	return append(b, mac...), err
}

func headerMAC(head []byte, key sealedset.Secret) ([]byte, error) {
	k, err := sealedset.Derive(key[:], purposeHeader)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, k[:])
	h.Write(head)
	return h.Sum(nil), nil
}

// readHeader reads the beginning of a file and answers it as it stands there, and its MAC.
func readHeader(in io.Reader) (h Header, head, mac []byte, err error) {
	head = make([]byte, len(magic)+1+4)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(magic)]) != magic {
		return h, nil, nil, ErrMalformed
	}
	if h.format = head[len(magic)]; h.format < 1 || h.format > format {
		return h, nil, nil, fmt.Errorf("%w: it is of form %d, this program knows %d", ErrFormat, h.format, format)
	}
	n := binary.BigEndian.Uint32(head[len(magic)+1:])
	if n > maxHeader {
		return h, nil, nil, ErrMalformed
	}
	rest := make([]byte, int(n)+sha256.Size)
	if _, err := io.ReadFull(in, rest); err != nil {
		return h, nil, nil, ErrMalformed
	}
	if err := strict(rest[:n], &h); err != nil {
		return h, nil, nil, ErrMalformed
	}
	return h, append(head, rest[:n]...), rest[n:], nil
}

// strict takes one JSON value and nothing that is not known.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more")
	}
	return nil
}

// Keys open a backup: either is enough.
type Keys struct {
	// KEK answers the key-encryption key of a name, or nil.
	KEK func(id string) Wrapper
	// Identity is the recovery key; nil: it is not here.
	Identity *recovery.Identity
}

// open finds the file's key and holds the header against it. With both keys here both have to lead to the same.
func (k Keys) open(ctx context.Context, h Header, head, mac []byte) (sealedset.Secret, error) {
	var found []sealedset.Secret
	if key := k.kek(h.KEK); key != nil {
		b, err := key.Unwrap(ctx, wrapContext(h.ID), h.Wrapped)
		if err != nil {
			return sealedset.Secret{}, fmt.Errorf("unwrap the backup's key with key-encryption key %s: %w: %w", h.KEK, ErrKey, err)
		}
		if len(b) != len(sealedset.Secret{}) {
			return sealedset.Secret{}, ErrMalformed
		}
		found = append(found, sealedset.Secret(b))
	}
	if k.Identity != nil {
		key, err := k.Identity.UnwrapKey(h.format, h.Encapsulated, h.Sealed, wrapContext(h.ID))
		if errors.Is(err, recovery.ErrNotApproved) {
			return sealedset.Secret{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		if err != nil {
			return sealedset.Secret{}, fmt.Errorf("%w: the recovery key does not open it; it is sealed to recovery key %s", ErrKey, h.Recovery)
		}
		found = append(found, key)
	}
	if len(found) == 0 {
		return sealedset.Secret{}, fmt.Errorf("%w: key-encryption key %s or recovery key %s is needed", ErrKey, h.KEK, h.Recovery)
	}
	for _, key := range found {
		want, err := headerMAC(head, key)
		if err != nil {
			return key, err
		}
		if !hmac.Equal(want, mac) {
			return key, fmt.Errorf("%w: its header was altered", ErrMalformed)
		}
	}
	return found[0], nil
}

func (k Keys) kek(id string) Wrapper {
	if k.KEK == nil {
		return nil
	}
	return k.KEK(id)
}
