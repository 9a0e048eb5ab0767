package devca_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyward.dev/controlplane/cmd/keyward/internal/dev/devca"
)

func TestClientsTrustWhatTheAuthoritySigned(t *testing.T) {
	t.Parallel()
	now := time.Now()
	files, err := devca.Make(t.TempDir(), now, []string{"localhost", "hello.test", "127.0.0.1", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(files.CA)
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("authority: %v", err)
	}
	for _, name := range []string{"localhost", "hello.test", "127.0.0.1", "::1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("Verify(%s) = %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "elsewhere.test", Roots: roots}); err == nil {
		t.Error("Verify(elsewhere.test) = nil, want an error")
	}
}

func TestTheAuthorityStaysUntilItNearlyExpires(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	read := func(at time.Time) []byte {
		files, err := devca.Make(dir, at, []string{"localhost"})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(files.CA)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := read(now)
	if !bytes.Equal(first, read(now.Add(24*time.Hour))) {
		t.Error("another authority after a day")
	}
	if bytes.Equal(first, read(now.Add(340*24*time.Hour))) {
		t.Error("the same authority when it nearly expires")
	}
}

func TestOnlyWeCanReadKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files, err := devca.Make(dir, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{files.Key, filepath.Join(dir, "ca.key")} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", path, info.Mode())
		}
	}
}
