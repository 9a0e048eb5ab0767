package hostsvc

import (
	"encoding/binary"
	"hash/maphash"
)

// signedBytes bounds what tokens for upstreams take.
const signedBytes = 32 << 20

// Signing is for policies that sign tokens for upstreams. Pushes leave it alone: what was signed under an unchanged
// configuration with an unchanged key is found again.
type Signing struct {
	// Tokens remembers what was signed.
	Tokens *TokenTable
	// Turns bound how many slow signatures are made at once.
	Turns *Workers
	seed  maphash.Seed
}

// NewSigning makes them, with bounds that fit a gateway.
func NewSigning() *Signing {
	return &Signing{Tokens: NewTokenTable(signedBytes), Turns: NewWorkers(0), seed: maphash.MakeSeed()}
}

// Number returns a number for whatever a pointer points to. Others can have the same one.
func Number[T any](s *Signing, p *T) uint64 { return maphash.Comparable(s.seed, p) }

// Flow returns a number for somebody with a name.
func (s *Signing) Flow(name string) uint64 { return maphash.String(s.seed, name) }

// Numbered returns the key of something that has a number. Whoever finds a value by it has to see that it is the right one.
func (c *TokenCache) Numbered(n uint64) TokenKey {
	key := TokenKey(c.scope)
	binary.LittleEndian.PutUint64(key[:], binary.LittleEndian.Uint64(key[:])^n)
	return key
}
