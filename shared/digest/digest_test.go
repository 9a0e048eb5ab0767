package digest_test

import (
	"crypto/sha256"
	"encoding/binary"
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
		{"empty", "e5a00aa9991ac8a5ee3109844d84a55583bd20572ad3ffcd42792f3c36b183ad", func() {}},
		{"one record", "7b7bfdd9d0e366590c48f77704bcfeee2d3dfb42bdbd6bdce467fe70564df771", func() { s.Add("routes", uid, []byte("one")) }},
		{"an empty record", "6866adc39234845fb09f50623a1665bab004d0da96a5abd5078f1c9352becfdf", func() { s.Add("consumers", uid, nil) }},
		{"a large record", "0e64478377d704b5b2d6931afebbd24a0a7d025c8c701001bfccbe8978a3dbb6", func() { s.Add("services", uid, large) }},
		{"the same again", "f25798b1aba10abed74e4699ee3d49ef362a91f683d1357126ce744ab730ea89", func() { s.Add("routes", uid, []byte("one")) }},
		{"one removed", "980d6e3a63b7f320452721421c3de8b2ee5a956654958645abebfe03e9be71e8", func() { s.Remove("consumers", uid, nil) }},
		{"removed before it is added", "3e046bd4d322a0bf30213b837c65c2bdabefcfaf952335a4bf190d0caddb0929", func() { s.Remove("routes", "other", []byte("x")) }},
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

// The lanes of a word must not carry into each other, and a Hasher must not remember the element before.
func TestHasherGivesWhatSetsGive(t *testing.T) {
	t.Parallel()
	var h digest.Hasher
	var one, many digest.Set
	naive := [digest.StateSize / 2]uint16{}
	check := func(step int) {
		state, err := many.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range naive {
			if got := binary.LittleEndian.Uint16(state[2*i:]); got != want {
				t.Fatalf("step %d: lane %d = %#x, want %#x", step, i, got, want)
			}
		}
		if one != many {
			t.Fatalf("step %d: Set and Hasher differ", step)
		}
	}
	element := func(i int) (string, string, []byte, [digest.StateSize / 2]uint16) {
		kind, uid, record := "k"+fmt.Sprint(i%3), fmt.Sprint(i), make([]byte, i%100)
		var alone digest.Set
		alone.Add(kind, uid, record)
		state, err := alone.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var lanes [digest.StateSize / 2]uint16
		for i := range lanes {
			lanes[i] = binary.LittleEndian.Uint16(state[2*i:])
		}
		return kind, uid, record, lanes
	}
	for i := range 300 {
		kind, uid, record, lanes := element(i)
		one.Add(kind, uid, record)
		h.Add(&many, kind, uid, record)
		for n, l := range lanes {
			naive[n] += l
		}
		check(i)
	}
	for i := range 400 { // some were never added
		kind, uid, record, lanes := element(i)
		one.Remove(kind, uid, record)
		h.Remove(&many, kind, uid, record)
		for n, l := range lanes {
			naive[n] -= l
		}
		check(-i)
	}
}

func BenchmarkAdd(b *testing.B) {
	record := make([]byte, 512)
	const uid = "5f2c1b7e-0c1d-4e2f-8a3b-9c4d5e6f7a8b"
	var s digest.Set
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Add("routes", uid, record)
		}
	})
	b.Run("many", func(b *testing.B) {
		var h digest.Hasher
		b.ReportAllocs()
		for b.Loop() {
			h.Add(&s, "routes", uid, record)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	var s digest.Set
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Sum()
	}
}
