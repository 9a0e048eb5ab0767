//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package directory_test

import (
	"crypto/sha256"
	"testing"

	"keyward.dev/dataplane/internal/policy/directory"
)

func TestLookupDoesNotAllocate(t *testing.T) {
	d := large(t, 1000)
	key := []byte("key-500")
	if n := testing.AllocsPerRun(500, func() { d.Credential("key-auth", key) }); n != 0 {
		t.Errorf("Credential() allocates %v times", n)
	}
}

func TestIdentificationDoesNotAllocate(t *testing.T) {
	e := directory.New().Edit()
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"})
	hash := sha256.Sum256([]byte("alice"))
	e.PutCredential(directory.Credential{UID: "k", Name: "k", Type: "mtls-auth", Consumer: "alice", Hash: hash})
	d := e.Directory()
	if n := testing.AllocsPerRun(500, func() {
		if c, several := d.Identified("mtls-auth", &hash); c == nil || several {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("Identified() allocates %v times", n)
	}
}
