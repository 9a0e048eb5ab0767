package certinput

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // HMAC-SHA-1 is what many encrypted keys were made with; it only derives the key that opens one
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"hash"
)

// Work bounds what opening the keys of one request may cost, which is as much as their files ask for.
type Work struct {
	rounds int
}

// NewWork allows so many rounds of key derivation: openssl writes 2,048 for a key, careful people a million.
func NewWork(rounds int) *Work { return &Work{rounds: rounds} }

// spend takes rounds, if as many are left.
func (w *Work) spend(rounds int) bool {
	if rounds > w.rounds {
		return false
	}
	w.rounds -= rounds
	return true
}

// privateKey reads a key and brings it into stored form; a reason says why it cannot.
func (r *reader) privateKey(block *pem.Block) (*key, string) {
	der := block.Bytes
	switch {
	case block.Headers["DEK-Info"] != "":
		return nil, "is encrypted in the old form of openssl, which protects it badly; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY"
	case block.Type == "ENCRYPTED PRIVATE KEY" && r.passphrase == "":
		return nil, "is encrypted: give its passphrase"
	case block.Type == "ENCRYPTED PRIVATE KEY":
		var reason string
		if der, reason = decrypt(der, r.passphrase, r.work); reason != "" {
			return nil, reason
		}
		r.opened = true
	}
	parsed, ok := parseKey(der)
	if !ok {
		if r.opened {
			return nil, "cannot be read: the passphrase is wrong, or the file is damaged"
		}
		return nil, "cannot be read"
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, "is of a kind that cannot sign"
	}
	stored, err := x509.MarshalPKCS8PrivateKey(parsed)
	if err != nil {
		return nil, "is of a kind that cannot be stored"
	}
	return &key{pem: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: stored})), public: signer.Public()}, ""
}

// parseKey reads a key whatever its block is called: what a file says and what it holds are often two things.
func parseKey(der []byte) (any, bool) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return k, true
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, true
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, true
	}
	return nil, false
}

// encryptedKey is EncryptedPrivateKeyInfo of RFC 5958.
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// pbes2 is PBES2-params of RFC 8018.
type pbes2 struct {
	KDF, Cipher pkix.AlgorithmIdentifier
}

// pbkdf2Params is PBKDF2-params of RFC 8018.
type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

const oidHMACWithSHA1 = "1.2.840.113549.2.7"

// What programs that are restricted to FIPS 140-3 say of what it does not approve of.
const (
	restricted8 = "is encrypted in a way that FIPS 140-3 does not approve of, to which this control plane is restricted; " +
		"convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in KEY"
	restricted12 = "is protected in a way that FIPS 140-3 does not approve of, to which this control plane is restricted; " +
		"convert it with: openssl pkcs12 -export -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg SHA256 -in PEM"
)

const damaged = "cannot be read: its encryption is damaged"

// decrypt opens a key in PKCS#8 with PBES2, PBKDF2 and AES-CBC, which is what today's tools write.
func decrypt(der []byte, passphrase string, work *Work) (plain []byte, reason string) {
	var in encryptedKey
	if rest, err := asn1.Unmarshal(der, &in); err != nil || len(rest) > 0 {
		return nil, damaged
	}
	if !in.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, "is encrypted in an old form; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY"
	}
	block, iv, reason := scheme(in.Algorithm, passphrase, work)
	if reason != "" {
		return nil, reason
	}
	return unpad(block, iv, in.Data)
}

// scheme reads PBES2-params and derives the key that they ask for.
func scheme(a pkix.AlgorithmIdentifier, passphrase string, work *Work) (block cipher.Block, iv []byte, reason string) {
	var s pbes2
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &s); err != nil {
		return nil, nil, damaged
	}
	size, iv, reason := aesOf(s.Cipher)
	if reason != "" {
		return nil, nil, reason
	}
	derived, reason := derive(s.KDF, passphrase, size, work)
	if reason != "" {
		return nil, nil, reason
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, nil, damaged
	}
	return block, iv, ""
}

// aesOf reads which AES a key is encrypted with.
func aesOf(a pkix.AlgorithmIdentifier) (size int, iv []byte, reason string) {
	sizes := map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
	size, ok := sizes[a.Algorithm.String()]
	if !ok {
		return 0, nil, "is not encrypted with AES-CBC; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY"
	}
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &iv); err != nil || len(iv) != aes.BlockSize {
		return 0, nil, damaged
	}
	return size, iv, ""
}

// derive makes the key that opens another one from a passphrase.
func derive(a pkix.AlgorithmIdentifier, passphrase string, size int, work *Work) (derived []byte, reason string) {
	if !a.Algorithm.Equal(oidPBKDF2) {
		return nil, "is encrypted with another key derivation than PBKDF2; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY"
	}
	var p pbkdf2Params
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &p); err != nil || p.Iterations < 1 || len(p.Salt) == 0 {
		return nil, damaged
	}
	if !work.spend(p.Iterations) {
		return nil, fmt.Sprintf("asks for %d rounds of key derivation, which is more than one request may take", p.Iterations)
	}
	hashes := map[string]func() hash.Hash{
		"": sha1.New, oidHMACWithSHA1: sha1.New, "1.2.840.113549.2.9": sha256.New,
		"1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	}
	h := hashes[p.PRF.Algorithm.String()]
	if h == nil {
		return nil, "is encrypted with a hash function that is not known here"
	}
	if prf := p.PRF.Algorithm.String(); (prf == "" || prf == oidHMACWithSHA1) && fips140.Enforced() {
		return nil, restricted8
	}
	derived, err := pbkdf2.Key(h, passphrase, p.Salt, p.Iterations, size)
	if err != nil { // only programs that are restricted to FIPS 140-3 refuse some, such as with a short salt
		return nil, restricted8
	}
	return derived, ""
}
