package mtls_test

import (
	"encoding/hex"
	"testing"

	"keyward.dev/shared/mtls"
)

// TestBundleDigest holds the form: programs of two versions have to agree on it.
func TestBundleDigest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		roots [][]byte
		want  string
	}{
		{"nothing", nil, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"one", [][]byte{[]byte("ab")}, "d2f295bb8c9d190af78252b52741eb32ccfbe1fc59942d13af20a763f619670e"},
		{"the same bytes in two", [][]byte{[]byte("a"), []byte("b")}, "16275ef0f5d0eb9dd9e0a53277549fda5c886358a6872df23c797b13e11455bc"},
		{"in another order", [][]byte{[]byte("b"), []byte("a")}, "8c33478e68c312fa9678089b77a62b46bab66d0bcf02d68b6483b32bf9d5664f"},
	} {
		got := mtls.BundleDigest(tt.roots)
		if hex.EncodeToString(got[:]) != tt.want {
			t.Errorf("%s: %x, want %s", tt.name, got, tt.want)
		}
	}
}
