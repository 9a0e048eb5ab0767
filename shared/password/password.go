// Package password makes, reads and verifies hashes of passwords: PBKDF2 with HMAC-SHA-256, which it makes, and argon2id
// and bcrypt, which come from elsewhere. It keeps no password and decides nothing about who may log in. The control
// plane makes hashes and judges those that are imported; gateways verify.
package password

import (
	"bytes"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

const (
	// Iterations of the hashes that are made: what OWASP's Password Storage Cheat Sheet asks for.
	Iterations = 600_000
	// MaxBytes is the longest password. Longer ones are nobody's.
	MaxBytes = 1024
	// MinLength is the fewest characters of a password that is set in the clear (NIST SP 800-63B, 5.1.1.2).
	MinLength = 8

	saltBytes = 16
	sumBytes  = sha256.Size
)

type algorithm uint8

const (
	algPBKDF2 algorithm = iota + 1
	algArgon2id
	algBcrypt
)

// Hash is a stored hash. It is immutable and safe for concurrent use.
type Hash struct {
	alg    algorithm
	text   []byte
	rounds int    // iterations, passes, or bcrypt's cost
	memory uint32 // KiB, argon2id only
	lanes  uint8  // argon2id only
	salt   []byte
	sum    []byte
}

// New returns a new hash of a password.
func New(password string) (*Hash, error) {
	h := &Hash{alg: algPBKDF2, rounds: Iterations, salt: make([]byte, saltBytes)}
	_, _ = rand.Read(h.salt) // never fails
	var err error
	if h.sum, err = pbkdf2.Key(sha256.New, password, h.salt, h.rounds, sumBytes); err != nil {
		return nil, fmt.Errorf("derive hash: %w", err)
	}
	h.write()
	return h, nil
}

// write makes the text of a hash that was made here.
func (h *Hash) write() {
	h.text = fmt.Appendf(nil, "$pbkdf2-sha256$i=%d$%s$%s", h.rounds, encoding.EncodeToString(h.salt), encoding.EncodeToString(h.sum))
}

// Decoy returns a hash that costs what those cost that New makes, and of which nobody knows the password.
func Decoy() *Hash {
	h := &Hash{alg: algPBKDF2, rounds: Iterations, salt: make([]byte, saltBytes), sum: make([]byte, sumBytes)}
	_, _ = rand.Read(h.salt)
	_, _ = rand.Read(h.sum)
	h.write()
	return h
}

// String returns the text that Parse reads.
func (h *Hash) String() string { return string(h.text) }

// Bytes returns the same, not to be changed. It stands for what a password was proved against: no two passwords have one text.
func (h *Hash) Bytes() []byte { return h.text }

// Approved says whether FIPS 140-3 approves of the hash.
func (h *Hash) Approved() bool {
	const minSalt, minSum = 16, 14 // SP 800-132, 5.1 and 5.2
	return h.alg == algPBKDF2 && len(h.salt) >= minSalt && len(h.sum) >= minSum
}

// Verify says whether the password is the one that was hashed. It takes as long as the hash is made to take. Now and then it
// calls pause, if there is one, so that other work can go first; not every algorithm lets it.
func (h *Hash) Verify(password []byte, pause func()) bool {
	switch h.alg {
	case algPBKDF2:
		sum := h.derive(password, pause)
		return sum != nil && subtle.ConstantTimeCompare(sum, h.sum) == 1
	case algArgon2id:
		sum := argon2.IDKey(password, h.salt, uint32(h.rounds), h.memory, h.lanes, uint32(len(h.sum)))
		return subtle.ConstantTimeCompare(sum, h.sum) == 1
	case algBcrypt:
		return bcrypt.CompareHashAndPassword(h.text, password) == nil
	default:
		return false
	}
}

// derive is PBKDF2. The standard library's cannot pause, so it is only used where no one wants that, or where the validated
// module has to do it; nil: that refuses.
func (h *Hash) derive(password []byte, pause func()) []byte {
	if pause == nil || fips140.Enabled() {
		sum, err := pbkdf2.Key(sha256.New, string(password), h.salt, h.rounds, len(h.sum))
		if err != nil {
			return nil
		}
		return sum
	}
	return derive(password, h.salt, h.rounds, len(h.sum), pause)
}

// pauseEvery is how many iterations, of some 0.15 µs each, go by between two pauses.
const pauseEvery = 1000

// derive is PBKDF2 (RFC 8018, 5.2) with HMAC-SHA-256, with pauses.
func derive(password, salt []byte, rounds, length int, pause func()) []byte {
	mac := hmac.New(sha256.New, password)
	var out []byte
	for block := byte(1); len(out) < length; block++ {
		mac.Reset()
		mac.Write(salt)
		mac.Write([]byte{0, 0, 0, block})
		u := mac.Sum(nil)
		t := bytes.Clone(u)
		for i := 1; i < rounds; i++ {
			if i%pauseEvery == 0 {
				pause()
			}
			mac.Reset()
			mac.Write(u)
			u = mac.Sum(u[:0])
			subtle.XORBytes(t, t, u)
		}
		out = append(out, t...)
	}
	return out[:length]
}

// Check says why a text cannot be set as a password, empty if it can.
func Check(password string) string {
	switch {
	case len(password) > MaxBytes:
		return fmt.Sprintf("must have at most %d bytes", MaxBytes)
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return "must be text without control characters"
	case utf8.RuneCountInString(password) < MinLength:
		return fmt.Sprintf("must have at least %d characters", MinLength)
	default:
		return ""
	}
}
