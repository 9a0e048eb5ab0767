package token

import "keyward.dev/shared/check/jwk"

// OwnKey is what the tokens are verified with that a consumer signs itself. It is never changed.
type OwnKey struct {
	// Keys has the key; nil: it is fetched from URL.
	Keys []*jwk.Key
	URL  string
	// Algorithm is the only one that counts; empty: those that the policy allows.
	Algorithm jwk.Algorithm
	// Held keeps what is fetched from URL; it is for nothing else.
	Held any
}
