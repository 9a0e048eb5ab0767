// Package bundle is the fallback bundle: the configuration of one gateway group in a file that any store may hold, so that a
// gateway which has neither a control plane nor a cache can start. The records are sealed to the bundle key of the group,
// whose private half the operator gives to its gateways, and the whole is signed by the installation, so that whoever can
// write to the store, or was given the bundle key, can make none that a gateway takes. The control plane writes bundles,
// gateways open them; this package is the form and what makes a file good or not. When one is written, and what a gateway
// has seen before, are not its business.
package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/sealedset"
)

const (
	magic   = "KWBUNDLE"
	version = 3
	// prefixSize is magic, version and the length of the header.
	prefixSize = len(magic) + 2 + 2
	// maxHeader bounds a header: a name of at most a few hundred bytes, two keys, fixed fields.
	maxHeader = 4096

	purposeWrap    = "keyward/fallback-bundle/v1 wrap"
	purposeRecords = "keyward/fallback-bundle/v1 records"
	purposeSign    = "keyward/fallback-bundle/v1 sign"

	// skew is how far in the future a bundle may have been issued: clocks differ a little.
	skew = 5 * time.Minute
)

// MaxSize bounds a bundle; it is read as a whole.
const MaxSize = 1 << 30

// Header says in the clear what is in a bundle.
type Header struct {
	Group    string
	Epoch    uint64
	Revision int64
	Digest   [digest.Size]byte
	// KeyVersion is that of the group's key it is sealed to.
	KeyVersion uint32
	Issued     time.Time
	// Expires is when gateways take it no longer.
	Expires time.Time
}

// core is the header without the wrapped key, which is bound to it.
func (h *Header) core() []byte {
	b := sealedset.AppendField(nil, []byte(h.Group))
	b = binary.BigEndian.AppendUint64(b, h.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Revision))
	b = append(b, h.Digest[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.KeyVersion))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Issued.UnixMilli()))
	return binary.BigEndian.AppendUint64(b, uint64(h.Expires.UnixMilli()))
}

// Write writes a bundle of the records, sealed to the group's key and signed.
func Write(w io.Writer, h Header, to Key, signer Signer, records iter.Seq[sealedset.Record]) error {
	h.KeyVersion, h.Group = to.Version, to.Group
	data := sealedset.NewSecret()
	public, err := to.seal()
	if err != nil {
		return fmt.Errorf("seal bundle: %w", err)
	}
	enc, wrapped, err := sealedset.Wrap(public, purposeWrap, data, h.core())
	if err != nil {
		return err
	}
	key, err := sealedset.Derive(data[:], purposeRecords)
	if err != nil {
		return err
	}
	body := sealedset.AppendField(sealedset.AppendField(h.core(), enc), wrapped)
	head := binary.BigEndian.AppendUint16([]byte(magic), version)
	head = append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...)

	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	if _, err := out.Write(head); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	sealed, err := sealedset.NewSealWriter(out, key, head)
	if err != nil {
		return err
	}
	if err := errors.Join(sealedset.WriteRecords(sealed, records), sealed.Close()); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	if _, err := w.Write(ed25519.Sign(signer.private, signed(sum.Sum(nil)))); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// signed is what the signature is over.
func signed(sum []byte) []byte { return append([]byte(purposeSign), sum...) }

// Bundle is a file whose signature is good.
type Bundle struct {
	Header
	head, enc, wrapped []byte
	sealed             []byte
}

// Verify checks the signature over the whole file and reads the header. Only then has anything of it been believed.
func Verify(file []byte, signer ed25519.PublicKey) (*Bundle, error) {
	if len(file) < prefixSize+ed25519.SignatureSize || string(file[:len(magic)]) != magic {
		return nil, refuse(sealedset.Damaged, "it is not a whole bundle")
	}
	if v := binary.BigEndian.Uint16(file[len(magic):]); v != version {
		return nil, refuse(sealedset.Version, "it is of version %d, this program knows %d", v, version)
	}
	content, signature := file[:len(file)-ed25519.SignatureSize], file[len(file)-ed25519.SignatureSize:]
	sum := sha256.Sum256(content)
	if !ed25519.Verify(signer, signed(sum[:]), signature) {
		return nil, refuse(sealedset.Signature, "it was altered, cut off, or not signed by the installation")
	}
	n := prefixSize + int(binary.BigEndian.Uint16(content[prefixSize-2:]))
	if n > prefixSize+maxHeader || n > len(content) {
		return nil, refuse(sealedset.Damaged, "its header is too long")
	}
	b := &Bundle{head: content[:n], sealed: content[n:]}
	return b, b.parse()
}

func (b *Bundle) parse() error {
	p := sealedset.NewParser(b.head[prefixSize:])
	b.Group = string(p.Field())
	b.Epoch, b.Revision = p.Uint64(), int64(p.Uint64())
	copy(b.Digest[:], p.Take(len(b.Digest)))
	b.KeyVersion = uint32(p.Uint64())
	b.Issued, b.Expires = time.UnixMilli(int64(p.Uint64())), time.UnixMilli(int64(p.Uint64()))
	b.enc, b.wrapped = p.Field(), p.Field()
	if !p.Done() {
		return refuse(sealedset.Damaged, "its header does not parse")
	}
	return nil
}

// Admit checks that the bundle is of the group and good at that time.
func (b *Bundle) Admit(group string, now time.Time) error {
	switch {
	case b.Group != group:
		return refuse(sealedset.OtherGroup, "it is of group %q", b.Group)
	case b.Issued.Sub(now) > skew:
		return refuse(sealedset.Future, "it was issued at %s, which has not come yet", b.Issued.UTC().Format(time.RFC3339))
	case !now.Before(b.Expires):
		return refuse(sealedset.Expired, "it expired at %s", b.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// SealedTo says whether the key opens the bundle. Versions alone do not tell: a database that was rewound counts them anew.
func (b *Bundle) SealedTo(k Key) bool {
	_, err := b.unwrap(k)
	return err == nil
}

func (b *Bundle) unwrap(k Key) (sealedset.Secret, error) {
	if k.Version != b.KeyVersion || k.Group != b.Group {
		return sealedset.Secret{}, errors.New("another version or group")
	}
	private, err := k.open()
	if err != nil {
		return sealedset.Secret{}, err
	}
	return sealedset.Unwrap(private, purposeWrap, b.enc, b.wrapped, b.core())
}

// Records opens the bundle with whichever of the keys it is sealed to, and hands its records to fold as frames. What fold
// makes of them is held against the digest by the caller.
func (b *Bundle) Records(keys []Key, fold func(*syncv1.Frame) error) error {
	for _, k := range keys {
		data, err := b.unwrap(k)
		if err != nil {
			continue
		}
		key, err := sealedset.Derive(data[:], purposeRecords)
		if err != nil {
			return err
		}
		opened, err := sealedset.NewOpenReader(bytes.NewReader(b.sealed), key, b.head)
		if err != nil {
			return err
		}
		return sealedset.ReadRecords(opened, fold)
	}
	return refuse(sealedset.OtherKey, "it is sealed to version %d of the bundle key, which is not here", b.KeyVersion)
}

func refuse(r sealedset.Reason, format string, args ...any) error {
	return sealedset.Refuse("fallback bundle", r, format, args...)
}
