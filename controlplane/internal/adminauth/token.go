package adminauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"math/big"
	"strings"
	"time"
)

const (
	tokenPrefix  = "kwa_"
	tokenIDLen   = 12
	secretLen    = 32
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	tokenTextLen = len(tokenPrefix) + tokenIDLen + 1 + secretLen
)

// Token is a stored admin token. The secret itself is kept nowhere.
type Token struct {
	ID, Name string
	// Hash is the SHA-256 of the secret. The secret has 190 random bits, so a slow hash would gain nothing.
	Hash      [sha256.Size]byte
	Grants    []Grant
	CreatedAt time.Time
	// Expires is zero for a token that is good until deleted.
	Expires time.Time
}

// Matches reports, in constant time, whether secret is the token's.
func (t *Token) Matches(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(sum[:], t.Hash[:]) == 1
}

// Issue makes a fresh token and its text, which is shown to its owner once.
func Issue(name string, grants []Grant) (Token, string, error) {
	id, err := Random(tokenIDLen)
	if err != nil {
		return Token{}, "", err
	}
	secret, err := Random(secretLen)
	if err != nil {
		return Token{}, "", err
	}
	t := Token{ID: id, Name: name, Hash: sha256.Sum256([]byte(secret)), Grants: grants}
	return t, tokenPrefix + id + "_" + secret, nil
}

// Adopt makes the stored form of a token whose text was made elsewhere (a mounted Secret).
func Adopt(name, text string, grants []Grant) (Token, error) {
	id, secret, ok := Parse(text)
	if !ok {
		return Token{}, fmt.Errorf("read token: not of the form %s<%d characters>_<%d characters>", tokenPrefix, tokenIDLen, secretLen)
	}
	return Token{ID: id, Name: name, Hash: sha256.Sum256([]byte(secret)), Grants: grants}, nil
}

// Parse splits the text of a token.
func Parse(text string) (id, secret string, ok bool) {
	if len(text) != tokenTextLen || !strings.HasPrefix(text, tokenPrefix) {
		return "", "", false
	}
	id, secret = text[len(tokenPrefix):len(tokenPrefix)+tokenIDLen], text[tokenTextLen-secretLen:]
	ok = text[len(tokenPrefix)+tokenIDLen] == '_' && allBase62(id) && allBase62(secret)
	return id, secret, ok
}

// Random returns n base62 characters, uniformly drawn.
func Random(n int) (string, error) {
	limit := big.NewInt(int64(len(base62)))
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, limit)
		if err != nil {
			return "", fmt.Errorf("draw random characters: %w", err)
		}
		out[i] = base62[k.Int64()]
	}
	return string(out), nil
}

func allBase62(s string) bool {
	for i := range len(s) {
		if strings.IndexByte(base62, s[i]) < 0 {
			return false
		}
	}
	return true
}
