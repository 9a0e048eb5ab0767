package backup

import (
	"bytes"
	"crypto/hpke"
	"encoding/pem"
	"io"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/shared/sealedset"
)

// first writes a backup of the first format and answers it with its recovery key, which is of the first kind too.
func first(t *testing.T, k Wrapper) ([]byte, recovery.Identity) {
	t.Helper()
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := recovery.ParseIdentity(pem.EncodeToMemory(&pem.Block{Type: "KEYWARD RECOVERY KEY", Bytes: seed}))
	if err != nil {
		t.Fatal(err)
	}
	h, key, err := newHeader(t.Context(), Options{At: time.Now(), Program: "test", KEK: k, Recipient: identity.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	h.format = 1
	enc, sender, err := hpke.NewSender(private.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("keyward/backup/v1"))
	if err != nil {
		t.Fatal(err)
	}
	h.Encapsulated = enc
	if h.Sealed, err = sender.Seal(wrapContext(h.ID), key[:]); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	head, err := appendHeader(h, key)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(head)
	w := &Writer{header: h}
	w.chunks, err = newChunks(key, head, func(key sealedset.Secret, aad []byte) (*sealedset.SealWriter, error) {
		return sealedset.NewSealWriter(&out, key, aad)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Keyrings([]byte("keyrings")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(Manifest{Schema: 13}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), identity
}

func TestABackupOfTheFirstFormatOpensByEitherKey(t *testing.T) {
	t.Parallel()
	k, err := file.Parse([]byte(strings.Repeat("5", 64)))
	if err != nil {
		t.Fatal(err)
	}
	b, identity := first(t, k)
	later := bytes.Clone(b)
	later[len(magic)] = 2
	for name, keys := range map[string]Keys{"kek": {KEK: func(string) Wrapper { return k }}, "recovery key": {Identity: &identity}} {
		r, err := Open(t.Context(), bytes.NewReader(b), keys)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, err := r.Each(func(string, []string, io.Reader) error { return nil })
		if err != nil || c.Schema != 13 || string(c.Keyrings) != "keyrings" {
			t.Errorf("%s: Each = %+v, %v", name, c, err)
		}
		if _, err := Open(t.Context(), bytes.NewReader(later), keys); err == nil {
			t.Errorf("%s: it opens as one of the second format", name)
		}
	}
}
