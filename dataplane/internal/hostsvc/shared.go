package hostsvc

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// SharedStore is a store together with what hides from it what is kept there.
type SharedStore struct {
	pool *RedisPool
	keys [][]byte
}

// NewSharedStore returns a store that is told keyed hashes only. It takes the pepper's terms: while they change, gateways that
// have at least one in common find what the others have taken.
func NewSharedStore(pool *RedisPool, peppers [][]byte) (*SharedStore, error) {
	s := &SharedStore{pool: pool}
	for _, pepper := range peppers {
		// A key of its own: what is hashed under the pepper itself are credentials.
		key, err := hkdf.Key(sha256.New, pepper, nil, "keyward names in shared stores", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive key: %w", err)
		}
		s.keys = append(s.keys, key)
	}
	if len(s.keys) == 0 {
		return nil, errors.New("there is no pepper yet to hide from it what it is told")
	}
	return s, nil
}

// Uses returns a handle on what is taken once in the store. While that does not answer, strict ones take nothing, and others
// whatever this gateway alone has not taken before.
func (s *SharedStore) Uses(strict bool) *SharedUses { return &SharedUses{s, strict} }

// SharedUses is a handle on what all gateways that share a store take once.
type SharedUses struct {
	store  *SharedStore
	strict bool
}

// take takes what is called by these words. It never answers ReplayUnsure.
func (u *SharedUses) take(ttl time.Duration, words ...string) Replay {
	names := make([]string, len(u.store.keys))
	for i, key := range u.store.keys {
		names[i] = hidden(key, words)
	}
	first, err := u.store.pool.take(names, ttl)
	switch {
	case err == nil && !first:
		return ReplayAgain
	case err != nil && u.strict:
		return ReplayOutage
	}
	return ReplayFirst
}

// hidden is a name for words that tells nothing of them, and is another one for others.
func hidden(key []byte, words []string) string {
	mac := hmac.New(sha256.New, key)
	var size [8]byte
	for _, w := range words {
		binary.BigEndian.PutUint64(size[:], uint64(len(w)))
		mac.Write(size[:])
		mac.Write([]byte(w))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
