package digest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"keyward.dev/shared/digest"
)

func TestOrderOfAdditionsDoesNotMatter(t *testing.T) {
	t.Parallel()
	var a, b digest.Set
	order := rand.Perm(200)
	for i := range 200 {
		a.Add("routes", fmt.Sprint(i), []byte{byte(i)})
		b.Add("routes", fmt.Sprint(order[i]), []byte{byte(order[i])})
	}
	if a.Sum() != b.Sum() {
		t.Fatal("the same set gave two digests")
	}
}

func TestRemoveUndoesAdd(t *testing.T) {
	t.Parallel()
	var empty, s digest.Set
	s.Add("routes", "u1", []byte("one"))
	one := s.Sum()
	s.Add("routes", "u2", []byte("two"))
	s.Remove("routes", "u2", []byte("two"))
	if s.Sum() != one {
		t.Error("add and remove of u2 changed the digest")
	}
	s.Remove("routes", "u1", []byte("one"))
	if s.Sum() != empty.Sum() {
		t.Error("removing everything did not give the digest of the empty set")
	}
}

func TestEveryPartOfAnElementCounts(t *testing.T) {
	t.Parallel()
	elements := []struct {
		name, kind, uid, record string
	}{
		{"base", "routes", "u1", "x"},
		{"kind", "services", "u1", "x"},
		{"uid", "routes", "u2", "x"},
		{"record", "routes", "u1", "y"},
		{"border between kind and uid", "route", "su1", "x"},
		{"border between uid and record", "routes", "u1x", ""},
	}
	seen := map[[digest.Size]byte]string{}
	for _, e := range elements {
		var s digest.Set
		s.Add(e.kind, e.uid, []byte(e.record))
		if other, ok := seen[s.Sum()]; ok {
			t.Errorf("%s has the digest of %s", e.name, other)
		}
		seen[s.Sum()] = e.name
	}
}

func TestStateRoundTrip(t *testing.T) {
	t.Parallel()
	var a, b digest.Set
	a.Add("routes", "u1", []byte("one"))
	state, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	b.Remove("routes", "u1", []byte("one"))
	var empty digest.Set
	if b.Sum() != empty.Sum() {
		t.Error("a restored set does not go on where it was")
	}
	if err := b.UnmarshalBinary(state[1:]); err == nil {
		t.Error("a short state was accepted")
	}
}

// The digest is spoken between control planes and gateways of different versions and stored in group heads: these values
// must never change.
func TestGoldenValues(t *testing.T) {
	t.Parallel()
	const uid = "5f2c1b7e-0c1d-4e2f-8a3b-9c4d5e6f7a8b"
	large := make([]byte, 70_000)
	for i := range large {
		large[i] = byte(i * 7)
	}
	var s digest.Set
	for _, step := range []struct {
		name, want string
		do         func()
	}{
		{"empty", "", func() {}},
		{"one record", "", func() { s.Add("routes", uid, []byte("one")) }},
		{"an empty record", "", func() { s.Add("consumers", uid, nil) }},
		{"a large record", "", func() { s.Add("services", uid, large) }},
		{"the same again", "", func() { s.Add("routes", uid, []byte("one")) }},
		{"one removed", "", func() { s.Remove("consumers", uid, nil) }},
		{"removed before it is added", "", func() { s.Remove("routes", "other", []byte("x")) }},
	} {
		step.do()
		sum := s.Sum()
		if got := hex.EncodeToString(sum[:]); got != step.want {
			t.Errorf("%s: digest = %s, want %s", step.name, got, step.want)
		}
	}
	state, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(state)
	if sum != s.Sum() {
		t.Error("the digest is not the SHA-256 of the state")
	}
}

func BenchmarkAdd(b *testing.B) {
	record := make([]byte, 512)
	var s digest.Set
	b.ReportAllocs()
	for b.Loop() {
		s.Add("routes", "5f2c1b7e-0c1d-4e2f-8a3b-9c4d5e6f7a8b", record)
	}
}
