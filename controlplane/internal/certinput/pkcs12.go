package certinput

import (
	"bytes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // what many files were encrypted with; it only opens them
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"hash"
	"slices"
	"unicode/utf16"
)

// What PKCS#12 files are made of (RFC 7292).
type (
	pfx struct {
		Version  int
		AuthSafe contentInfo
		Mac      macData `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	macData struct {
		Digest struct {
			Algorithm pkix.AlgorithmIdentifier
			Digest    []byte
		}
		Salt   []byte
		Rounds int `asn1:"optional,default:1"`
	}
	encryptedData struct {
		Version int
		Content struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	safeBag struct {
		Type       asn1.ObjectIdentifier
		Value      asn1.RawValue `asn1:"tag:0,explicit"`
		Attributes asn1.RawValue `asn1:"set,optional"`
	}
	certBag struct {
		Type asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
	saltAndRounds struct {
		Salt   []byte
		Rounds int
	}
)

// Object identifiers of contents, bags and algorithms.
const (
	oidData          = "1.2.840.113549.1.7.1"
	oidEncryptedData = "1.2.840.113549.1.7.6"
	oidKeyBag        = "1.2.840.113549.1.12.10.1.1"
	oidShroudedBag   = "1.2.840.113549.1.12.10.1.2"
	oidCertBag       = "1.2.840.113549.1.12.10.1.3"
	oidX509Bag       = "1.2.840.113549.1.9.22.1"
	oidSHA1          = "1.3.14.3.2.26"
	oidTripleDES     = "1.2.840.113549.1.12.1.3"
)

const (
	wrongOrDamaged = "cannot be opened: the passphrase is wrong, or the file is damaged"
	oldPKCS12      = "is encrypted in an old form (RC2); write it anew with: openssl pkcs12 -legacy -in FILE -nodes | openssl pkcs12 -export -out NEW"
	notPKCS12      = "is not a PKCS#12 file"
)

// PKCS12 opens a PKCS#12 file and answers what is in it as PEM, its keys in the clear. It reads what today's tools write, and
// files encrypted with triple DES; their work is bounded, which is why this is no library's.
func PKCS12(der []byte, passphrase string, work *Work) (text, reason string) {
	var file pfx
	if rest, err := asn1.Unmarshal(der, &file); err != nil || len(rest) > 0 || file.Version != 3 || file.AuthSafe.Type.String() != oidData {
		return "", notPKCS12
	}
	var safe []byte
	if _, err := asn1.Unmarshal(file.AuthSafe.Content.Bytes, &safe); err != nil {
		return "", notPKCS12
	}
	o := &pkcs12{passphrase: passphrase, work: work}
	if reason := o.verify(&file.Mac, safe); reason != "" {
		return "", reason
	}
	var contents []contentInfo
	if _, err := asn1.Unmarshal(safe, &contents); err != nil {
		return "", notPKCS12
	}
	for _, c := range contents {
		if reason := o.content(c); reason != "" {
			return "", reason
		}
	}
	return o.out.String(), ""
}

type pkcs12 struct {
	passphrase string
	work       *Work
	out        bytes.Buffer
}

// verify checks that the file is whole and was made with the passphrase. A file without a MAC is opened as it is.
func (o *pkcs12) verify(mac *macData, safe []byte) string {
	if len(mac.Digest.Digest) == 0 {
		return ""
	}
	hashes := map[string]func() hash.Hash{
		oidSHA1: sha1.New, "2.16.840.1.101.3.4.2.1": sha256.New,
		"2.16.840.1.101.3.4.2.2": sha512.New384, "2.16.840.1.101.3.4.2.3": sha512.New,
	}
	h := hashes[mac.Digest.Algorithm.Algorithm.String()]
	if h == nil {
		return "is protected with a function that is not known here"
	}
	if outdated := mac.Digest.Algorithm.Algorithm.String() == oidSHA1; outdated && fips140.Enforced() {
		return restricted12
	}
	if reason := o.spend(mac.Rounds); reason != "" {
		return reason
	}
	m := hmac.New(h, o.kdf(h, 3, mac.Salt, mac.Rounds, h().Size()))
	m.Write(safe)
	if subtle.ConstantTimeCompare(m.Sum(nil), mac.Digest.Digest) != 1 {
		return wrongOrDamaged
	}
	return ""
}

func (o *pkcs12) spend(rounds int) string {
	if rounds < 1 || !o.work.spend(rounds) {
		return fmt.Sprintf("asks for %d rounds of key derivation, which is more than one request may take", rounds)
	}
	return ""
}

// content reads one of the parts of a file, which may be encrypted.
func (o *pkcs12) content(c contentInfo) string {
	var safe []byte
	switch c.Type.String() {
	case oidData:
		if _, err := asn1.Unmarshal(c.Content.Bytes, &safe); err != nil {
			return notPKCS12
		}
	case oidEncryptedData:
		var e encryptedData
		if _, err := asn1.Unmarshal(c.Content.Bytes, &e); err != nil {
			return notPKCS12
		}
		var reason string
		if safe, reason = o.open(e.Content.Algorithm, e.Content.Data); reason != "" {
			return reason
		}
	default:
		return "is encrypted for a certificate, not with a passphrase"
	}
	var bags []safeBag
	if _, err := asn1.Unmarshal(safe, &bags); err != nil {
		return wrongOrDamaged
	}
	for _, b := range bags {
		if reason := o.bag(b); reason != "" {
			return reason
		}
	}
	return ""
}

// bag writes a certificate or key; other things that files may hold are passed over.
func (o *pkcs12) bag(b safeBag) string {
	switch b.Type.String() {
	case oidCertBag:
		var c certBag
		if _, err := asn1.Unmarshal(b.Value.Bytes, &c); err != nil || c.Type.String() != oidX509Bag {
			return "holds a certificate that cannot be read"
		}
		o.write("CERTIFICATE", c.Data)
	case oidKeyBag:
		o.write("PRIVATE KEY", b.Value.Bytes)
	case oidShroudedBag:
		var e encryptedKey
		if _, err := asn1.Unmarshal(b.Value.Bytes, &e); err != nil {
			return "holds a private key that cannot be read"
		}
		key, reason := o.open(e.Algorithm, e.Data)
		if reason != "" {
			return reason
		}
		o.write("PRIVATE KEY", key)
	}
	return ""
}

func (o *pkcs12) write(kind string, der []byte) {
	_ = pem.Encode(&o.out, &pem.Block{Type: kind, Bytes: der}) // a Buffer never fails
}

// open decrypts with the passphrase.
func (o *pkcs12) open(a pkix.AlgorithmIdentifier, data []byte) (plain []byte, reason string) {
	var block cipher.Block
	var iv []byte
	switch {
	case a.Algorithm.Equal(oidPBES2):
		if block, iv, reason = scheme(a, o.passphrase, o.work); reason != "" {
			return nil, reason
		}
	case a.Algorithm.String() == oidTripleDES && fips140.Enforced():
		return nil, restricted12
	case a.Algorithm.String() == oidTripleDES:
		var p saltAndRounds
		if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &p); err != nil {
			return nil, wrongOrDamaged
		}
		if reason := o.spend(p.Rounds); reason != "" {
			return nil, reason
		}
		var err error
		block, err = des.NewTripleDESCipher(o.kdf(sha1.New, 1, p.Salt, p.Rounds, 24)) //nolint:gosec // it only opens what is there
		if err != nil {
			return nil, wrongOrDamaged
		}
		iv = o.kdf(sha1.New, 2, p.Salt, p.Rounds, des.BlockSize)
	default:
		return nil, oldPKCS12
	}
	return unpad(block, iv, data)
}

// unpad decrypts data in CBC mode and removes the padding of PKCS#7.
func unpad(block cipher.Block, iv, data []byte) (plain []byte, reason string) {
	size := block.BlockSize()
	if len(data) == 0 || len(data)%size != 0 {
		return nil, wrongOrDamaged
	}
	plain = make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > size || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, wrongOrDamaged
	}
	return plain[:len(plain)-pad], ""
}

// kdf derives keys as RFC 7292 appendix B.2 says; id 1 is for keys, 2 for vectors, 3 for MACs.
func (o *pkcs12) kdf(h func() hash.Hash, id byte, salt []byte, rounds, size int) []byte {
	v := h().BlockSize()
	var password []byte
	for _, u := range utf16.Encode([]rune(o.passphrase + "\x00")) {
		password = append(password, byte(u>>8), byte(u))
	}
	block := append(stretch(salt, v), stretch(password, v)...)
	var out []byte
	for len(out) < size {
		d := h()
		d.Write(bytes.Repeat([]byte{id}, v))
		d.Write(block)
		sum := d.Sum(nil)
		for range rounds - 1 {
			d.Reset()
			d.Write(sum)
			sum = d.Sum(sum[:0])
		}
		out = append(out, sum...)
		increase(block, stretch(sum, v)[:v])
	}
	return out[:size]
}

// stretch repeats bytes to a multiple of v.
func stretch(b []byte, v int) []byte {
	if len(b) == 0 {
		return nil
	}
	n := (len(b) + v - 1) / v * v
	return bytes.Repeat(b, n/len(b)+1)[:n]
}

// increase adds b + 1 to each of the blocks, as big-endian numbers.
func increase(blocks, b []byte) {
	for at := 0; at < len(blocks); at += len(b) {
		carry := 1
		for i, more := range slices.Backward(b) {
			carry += int(blocks[at+i]) + int(more)
			blocks[at+i] = byte(carry)
			carry >>= 8
		}
	}
}
