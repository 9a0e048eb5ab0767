package recovery_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/recovery"
)

func identity(t testing.TB) recovery.Identity {
	t.Helper()
	i, err := recovery.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func backup(t testing.TB, to recovery.Recipient) (recovery.Backup, []byte) {
	t.Helper()
	b := recovery.Backup{At: time.UnixMilli(1_700_000_000_000), Entries: []recovery.Entry{
		{UID: "u0", Group: "system", Ring: keyring.New()}, {UID: "u1", Group: "shop", Ring: keyring.New().AddTerm()},
	}}
	file, err := recovery.Seal(to, b)
	if err != nil {
		t.Fatal(err)
	}
	return b, file
}

func TestABackupOpensWithItsKeyOnly(t *testing.T) {
	t.Parallel()
	key := identity(t)
	// Both halves go through their files.
	secret, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	to, err := recovery.ParseRecipient(key.Recipient().MarshalPEM())
	if err != nil {
		t.Fatal(err)
	}
	want, file := backup(t, to)
	for _, e := range want.Entries {
		if bytes.Contains(file, e.Ring.Marshal()[9:40]) || bytes.Contains(file, []byte(e.Group)) {
			t.Error("the backup has plain text")
		}
	}
	again, err := recovery.ParseIdentity(secret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := recovery.Open(again, file)
	if err != nil || !got.At.Equal(want.At) || len(got.Entries) != len(want.Entries) {
		t.Fatalf("Open = %v, %v", got, err)
	}
	for i, e := range got.Entries {
		if w := want.Entries[i]; e.UID != w.UID || e.Group != w.Group || !e.Ring.Equal(w.Ring) {
			t.Errorf("entry %d is %v, want %v", i, e, w)
		}
	}
	if _, err := recovery.Open(identity(t), file); !errors.Is(err, recovery.ErrOtherKey) {
		t.Errorf("with another key: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); text != "[recovery key] [recovery key] [recovery key] [recovery key]" {
		t.Errorf("the key prints itself: %s", text)
	}
}

func TestADamagedBackupIsRefused(t *testing.T) {
	t.Parallel()
	key := identity(t)
	_, file := backup(t, key.Recipient())
	block, _ := pem.Decode(file)
	encode := func(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: b}) }
	for at := 0; at < len(block.Bytes); at += 37 {
		b := bytes.Clone(block.Bytes)
		b[at] ^= 1
		if got, err := recovery.Open(key, encode(b)); err == nil {
			t.Fatalf("byte %d was altered, and it opens: %v", at, got)
		}
		if got, err := recovery.Open(key, encode(block.Bytes[:at])); err == nil {
			t.Fatalf("cut off at %d, and it opens: %v", at, got)
		}
	}
	secret, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("x"), "two": append(bytes.Clone(file), file...), "another thing": secret,
		"another format": encode(append([]byte{3}, block.Bytes[1:]...)), "more behind": encode(append(bytes.Clone(block.Bytes), 0)),
	} {
		if _, err := recovery.Open(key, other); !errors.Is(err, recovery.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	if _, err := recovery.ParseIdentity(key.Recipient().MarshalPEM()); !errors.Is(err, recovery.ErrMalformed) {
		t.Errorf("public half as the private one: %v", err)
	}
	if _, err := recovery.ParseRecipient(secret); !errors.Is(err, recovery.ErrMalformed) {
		t.Errorf("private half as the public one: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	key := identity(f)
	_, file := backup(f, key.Recipient())
	f.Add(file)
	f.Add([]byte("-----BEGIN KEYWARD KEYRING BACKUP-----\nAQAAAAAAAAAAAAAAAAAAAAAA\n-----END KEYWARD KEYRING BACKUP-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := recovery.Open(key, b); err == nil && len(got.Entries) != 2 {
			t.Errorf("opened to %v", got)
		}
	})
}
