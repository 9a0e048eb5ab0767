// Package kek is about key-encryption keys: what wraps the keyrings of groups so that the database alone opens nothing.
// Each kind of key has a package below this one and passes kektest. Only package sealer and the wiring use it; it knows
// nothing of rings.
package kek

import (
	"context"
	"errors"
)

var (
	// ErrUnavailable says that the key could not be reached; trying again later may work.
	ErrUnavailable = errors.New("key-encryption key unavailable")
	// ErrRefused says that the key does not unwrap this: it was wrapped by another key, in another context, or altered.
	ErrRefused = errors.New("key-encryption key does not unwrap this")
)

// Wrapper wraps small secrets. It is safe for concurrent use.
type Wrapper interface {
	// ID names the key, not its material; it changes when another key takes its place.
	ID() string
	// Wrap encrypts plaintext for a context, which is authenticated and not stored.
	Wrap(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error)
	// Unwrap is the reverse of Wrap for the same context. Its errors are ErrUnavailable or ErrRefused.
	Unwrap(ctx context.Context, wrapContext, wrapped []byte) ([]byte, error)
}
