// Package kektest is what every key-encryption key has to pass. Tests of the packages below kek call Run.
package kektest

import (
	"bytes"
	"errors"
	"testing"

	"keyward.dev/controlplane/internal/kek"
)

// Run checks wrappers; each call of make gives one with a key of its own.
func Run(t *testing.T, make func(t *testing.T) kek.Wrapper) {
	t.Helper()
	w, other := make(t), make(t)
	for name, check := range map[string]func(t *testing.T){
		"UnwrapGivesBackWhatWasWrapped": func(t *testing.T) { unwraps(t, w) },
		"EqualSecretsWrapDifferently":   func(t *testing.T) { differs(t, w) },
		"WrappedHidesTheSecret":         func(t *testing.T) { hides(t, w) },
		"AnotherContextIsRefused":       func(t *testing.T) { context(t, w) },
		"AnotherKeyIsRefused":           func(t *testing.T) { foreign(t, w, other) },
		"EveryFlippedByteIsRefused":     func(t *testing.T) { flipped(t, w) },
		"EveryTruncationIsRefused":      func(t *testing.T) { truncated(t, w) },
	} {
		t.Run(name, check)
	}
}

var (
	wrapContext = []byte("group-1 version-1")
	secret      = []byte("a secret of some thirty-odd bytes")
)

func wrap(t *testing.T, w kek.Wrapper) []byte {
	t.Helper()
	wrapped, err := w.Wrap(t.Context(), wrapContext, secret)
	if err != nil {
		t.Fatalf("Wrap: %v", err)
	}
	return wrapped
}

func refused(t *testing.T, what string, w kek.Wrapper, wrapContext, wrapped []byte) {
	t.Helper()
	got, err := w.Unwrap(t.Context(), wrapContext, wrapped)
	if !errors.Is(err, kek.ErrRefused) || got != nil {
		t.Errorf("Unwrap of %s = %d bytes, %v; want ErrRefused", what, len(got), err)
	}
}

func unwraps(t *testing.T, w kek.Wrapper) {
	got, err := w.Unwrap(t.Context(), wrapContext, wrap(t, w))
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Unwrap = %d bytes, %v", len(got), err)
	}
}

func differs(t *testing.T, w kek.Wrapper) {
	if bytes.Equal(wrap(t, w), wrap(t, w)) {
		t.Error("the same secret wraps to the same bytes")
	}
}

func hides(t *testing.T, w kek.Wrapper) {
	if bytes.Contains(wrap(t, w), secret[:8]) {
		t.Error("the wrapped form contains the secret")
	}
}

func context(t *testing.T, w kek.Wrapper) {
	wrapped := wrap(t, w)
	for _, c := range []string{"", "group-1 version-2", "group-1 version-1 "} {
		refused(t, "context "+c, w, []byte(c), wrapped)
	}
}

func foreign(t *testing.T, w, other kek.Wrapper) {
	if w.ID() == other.ID() || w.ID() == "" {
		t.Errorf("two keys have the ids %q and %q", w.ID(), other.ID())
	}
	refused(t, "another key's", other, wrapContext, wrap(t, w))
}

func flipped(t *testing.T, w kek.Wrapper) {
	wrapped := wrap(t, w)
	for i := range wrapped {
		b := bytes.Clone(wrapped)
		b[i] ^= 1
		refused(t, "flipped", w, wrapContext, b)
	}
}

func truncated(t *testing.T, w kek.Wrapper) {
	wrapped := wrap(t, w)
	for n := range wrapped {
		refused(t, "truncated", w, wrapContext, wrapped[:n])
	}
}
