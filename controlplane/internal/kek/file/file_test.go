package file_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/kek/kektest"
)

func material(t testing.TB) []byte {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	t.Parallel()
	kektest.Run(t, func(t *testing.T) kek.Wrapper {
		k, err := file.Parse(material(t))
		if err != nil {
			t.Fatal(err)
		}
		return k
	})
}

func TestAllFormsAreTheSameKey(t *testing.T) {
	t.Parallel()
	raw := material(t)
	raw[0] = 0xfb // a character in which the alphabets of base64 differ
	want, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"hexadecimal":     hex.EncodeToString(raw),
		"upper case":      strings.ToUpper(hex.EncodeToString(raw)),
		"base64":          base64.StdEncoding.EncodeToString(raw) + "\n",
		"unpadded base64": base64.RawStdEncoding.EncodeToString(raw),
		"base64url":       " " + base64.URLEncoding.EncodeToString(raw) + "\r\n",
	} {
		got, err := file.Parse([]byte(text))
		if err != nil || got.ID() != want.ID() {
			t.Errorf("%s: id %v, err %v; want id %s", name, got, err, want.ID())
		}
	}
}

func TestWhatIsNoKeyIsRefusedWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"empty":         nil,
		"short":         material(t)[:31],
		"long":          append(material(t), 1),
		"a passphrase":  []byte("correct horse battery staple"),
		"16 bytes text": []byte(hex.EncodeToString(material(t)[:16]) + "!"),
		"all zero":      make([]byte, 32),
	} {
		_, err := file.Parse(b)
		if !errors.Is(err, file.ErrKey) {
			t.Errorf("%s: err = %v", name, err)
		}
		if err != nil && len(b) > 0 && strings.Contains(err.Error(), string(b)) {
			t.Errorf("%s: the error quotes it", name)
		}
	}
}

func TestOpenReadsAFile(t *testing.T) {
	t.Parallel()
	raw, path := material(t), filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := file.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v", k, k, k); strings.Contains(s, string(raw[:8])) || bytes.Contains([]byte(s), []byte("key:")) {
		t.Errorf("printed: %s", s)
	}
	if _, err := file.Open(path + ".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
