package keyring_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/keyring"
)

// fixedRing is the same in every process, so that found inputs stay meaningful.
func fixedRing(f testing.TB) *keyring.Ring {
	f.Helper()
	b := []byte{1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0}
	r, err := keyring.Unmarshal(append(b, bytes.Repeat([]byte{7}, 64)...))
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// storedRow is what an earlier build sealed with fixedRing.
func storedRow(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/row-v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestWhatEarlierBuildsSealedStillOpens(t *testing.T) {
	t.Parallel()
	got, err := fixedRing(t).OpenRow(place(), clearPart(), storedRow(t))
	if err != nil || string(got) != "content" {
		t.Errorf("OpenRow = %q, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	r, sealed := fixedRing(f), storedRow(f)
	f.Add(sealed)
	f.Add(sealed[:40])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 80))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := r.OpenRow(place(), clearPart(), b)
		if err == nil && !bytes.Equal(b, sealed) {
			t.Fatalf("forged ciphertext opened: %q", got)
		}
		if err != nil && got != nil {
			t.Fatal("content along with an error")
		}
	})
}

// FuzzOpenRowEnvelope seals arbitrary bytes, so that the parser behind the authentication is reached too.
func FuzzOpenRowEnvelope(f *testing.F) {
	r := fixedRing(f)
	f.Add([]byte{0, 0, 0, 1, 'n', 0, 0, 0, 1, 0, 0, 0, 1, 'k', 0, 0, 0, 0, 'x'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed, err := r.Seal(place(), b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.OpenRow(place(), clearPart(), sealed); err != nil && got != nil {
			t.Fatal("content along with an error")
		}
	})
}

func FuzzTerm(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1})
	f.Add(bytes.Repeat([]byte{1}, keyring.Overhead))
	f.Fuzz(func(t *testing.T, b []byte) {
		term, err := keyring.Term(b)
		if (err == nil) != (term != 0) {
			t.Fatalf("Term = %d, %v", term, err)
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(keyring.New().Marshal())
	f.Add([]byte{1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := keyring.Unmarshal(b)
		if err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Fatal("Marshal(Unmarshal(b)) is not b")
		}
	})
}
