package sealedcache_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/sealedcache"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/shared/mtls"
)

// FuzzReadHeader holds that a header has one form: what parses is written as it was read.
func FuzzReadHeader(f *testing.F) {
	set := statetest.Set(f, route("u1", "a", "x"))
	file, err := sealedcache.Seal(mtls.ID{TrustDomain: "kw.test", Group: "pay", Gateway: "g1"}, newKey(f), set, time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:100])
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = sealedcache.ReadHeader(b) })
}

// FuzzReadRecords reads anything as the inside of a file: what folds to the digest is a set, and comes out as it went in.
func FuzzReadRecords(f *testing.F) {
	set := statetest.Set(f, route("u1", "a", "x"), statetest.Record{Kind: "services", UID: "u2", Name: "b"})
	f.Add(sealedcache.WriteRecords(set))
	f.Add(sealedcache.WriteRecords(state.Empty()))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, digest := range [][32]byte{set.Digest, state.Empty().Digest} {
			got, err := sealedcache.ReadRecords(b, 1, 1, digest, state.Limits{})
			if err != nil {
				continue
			}
			if got.Digest != digest {
				t.Fatal("a set of another digest")
			}
			again, err := sealedcache.ReadRecords(sealedcache.WriteRecords(got), 1, 1, digest, state.Limits{})
			if err != nil {
				t.Fatalf("what was read does not read again: %v", err)
			}
			n, size := got.Size()
			if againN, againSize := again.Size(); againN != n || againSize != size {
				t.Fatalf("%d records of %d bytes read again as %d of %d", n, size, againN, againSize)
			}
		}
	})
}

// FuzzOpen alters a file that would open: whatever opens holds the very set that was sealed. Fuzzing runs in several
// processes, of which each seals a file of its own, so the bytes themselves cannot be compared.
func FuzzOpen(f *testing.F) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 7))
	if err != nil {
		f.Fatal(err)
	}
	id := mtls.ID{TrustDomain: "kw.test", Group: "pay", Gateway: "g1"}
	set := statetest.Set(f, route("u1", "a", "x"))
	file, err := sealedcache.Seal(id, key, set, time.Unix(1_700_000_000, 0))
	if err != nil {
		f.Fatal(err)
	}
	open, err := sealedcache.Opener(id, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:len(file)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := open(b)
		if err == nil && (got.Digest != set.Digest || got.Revision != set.Revision || got.Epoch != set.Epoch) {
			t.Fatal("a set opens that was not sealed")
		}
	})
}
