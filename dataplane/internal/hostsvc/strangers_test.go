package hostsvc_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/httpsig"
)

func TestThereIsAStrangerForEveryAlgorithm(t *testing.T) {
	t.Parallel()
	var got []string
	for _, k := range hostsvc.New(hostsvc.Config{}).Strangers {
		got = append(got, fmt.Sprint(k.Algorithm(), " ", k.Size()))
	}
	want := []string{
		"ecdsa-p256-sha256 64", "ecdsa-p384-sha384 96", "ed25519 64", "hmac-sha256 32", "hmac-sha512 64",
		"rsa-pss-sha512 256", "rsa-pss-sha512 384", "rsa-pss-sha512 512", "rsa-v1_5-sha256 256", "rsa-v1_5-sha256 384", "rsa-v1_5-sha256 512",
	}
	if slices.Sort(got); !cmp.Equal(want, got) {
		t.Errorf("strangers (-want +got):\n%s", cmp.Diff(want, got))
	}
}

// To verify with a stranger takes about as long as with a key that somebody has. Not parallel: it measures.
func TestStrangersTakeAsLong(t *testing.T) { //nolint:paralleltest // it measures
	real := map[httpsig.Algorithm]any{}
	var err error
	if real[httpsig.Ed25519], _, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	real[httpsig.ECDSAP256SHA256], real[httpsig.RSAPSSSHA512], real[httpsig.RSAPKCS1SHA256] = p256.Public(), r.Public(), r.Public()
	for _, stranger := range hostsvc.New(hostsvc.Config{}).Strangers {
		public := real[stranger.Algorithm()]
		if public == nil || stranger.Size() > 256 {
			continue
		}
		key, err := httpsig.NewPublic(stranger.Algorithm(), public)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := quickest(key), quickest(stranger); b < a/2 || b > 2*a {
			t.Errorf("%s: %v with a key that somebody has, %v with a stranger", stranger.Algorithm(), a, b)
		}
	}
}

// quickest is how long the key takes to say no, when nothing comes between.
func quickest(k *httpsig.Key) time.Duration {
	base, signature := []byte("base"), make([]byte, k.Size())
	for i := range signature {
		signature[i] = byte(i%100) + 1
	}
	best := time.Hour
	for range 100 {
		begin := time.Now()
		k.Verify(base, signature)
		best = min(best, time.Since(begin))
	}
	return best
}
