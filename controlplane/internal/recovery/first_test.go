package recovery_test

import (
	"bytes"
	"crypto/fips140"
	"crypto/hpke"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/shared/sealedset"
)

// firstKey is a recovery key as the first format had it: on X25519, and its files do not say what it is.
func firstKey(t testing.TB) (hpke.PrivateKey, recovery.Identity) {
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
	return private, identity
}

// firstSeal seals as the first format did.
func firstSeal(t testing.TB, to hpke.PublicKey, purpose string, plain []byte, aad func(enc []byte) []byte) (enc, sealed []byte) {
	t.Helper()
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose))
	if err != nil {
		t.Skipf("the module of this build does not seal so: %v", err)
	}
	if sealed, err = sender.Seal(aad(enc), plain); err != nil {
		t.Fatal(err)
	}
	return enc, sealed
}

func field(b, content []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(content))), content...)
}

// TestWhatTheFirstFormatSealedOpens, or is refused by its reason where nothing may be used that FIPS 140-3 does not approve of.
func TestWhatTheFirstFormatSealedOpens(t *testing.T) {
	t.Parallel()
	private, identity := firstKey(t)
	var head []byte
	at, ring := time.UnixMilli(1_700_000_000_000), keyring.New()
	_, sealed := firstSeal(t, private.PublicKey(), "keyward/keyring-backup/v1", field(field(field(nil, []byte("u1")), []byte("shop")), ring.Marshal()),
		func(enc []byte) []byte {
			head = field(binary.BigEndian.AppendUint64([]byte{1}, uint64(at.UnixMilli())), enc)
			return head
		})
	file := pem.EncodeToMemory(&pem.Block{Type: "KEYWARD KEYRING BACKUP", Bytes: field(head, sealed)})
	key := sealedset.NewSecret()
	enc, wrapped := firstSeal(t, private.PublicKey(), "keyward/backup/v1", key[:], func([]byte) []byte { return []byte("aad") })

	got, err := recovery.Open(identity, file)
	unwrapped, wrapErr := identity.UnwrapKey(1, enc, wrapped, []byte("aad"))
	if fips140.Enforced() {
		if !errors.Is(err, recovery.ErrNotApproved) || !errors.Is(wrapErr, recovery.ErrNotApproved) {
			t.Errorf("Open = %v, UnwrapKey = %v; want ErrNotApproved", err, wrapErr)
		}
		return
	}
	if err != nil || !got.At.Equal(at) || len(got.Entries) != 1 || got.Entries[0].Group != "shop" || !got.Entries[0].Ring.Equal(ring) {
		t.Errorf("Open = %v, %v", got, err)
	}
	if wrapErr != nil || unwrapped != key {
		t.Errorf("UnwrapKey = another key, %v", wrapErr)
	}
	if _, err := recovery.Open(identityOf(t), file); !errors.Is(err, recovery.ErrOtherKey) {
		t.Errorf("with another key: %v", err)
	}
	if _, err := identity.UnwrapKey(2, enc, wrapped, []byte("aad")); err == nil {
		t.Error("it opens as of the second format")
	}
}

func identityOf(t testing.TB) recovery.Identity {
	t.Helper()
	_, i := firstKey(t)
	return i
}

// TestAFirstKeyServesOn: it stays what it is in its files, and what is sealed to it is of the format of today.
func TestAFirstKeyServesOn(t *testing.T) {
	t.Parallel()
	_, identity := firstKey(t)
	public := identity.Recipient().MarshalPEM()
	if bytes.Contains(public, []byte("KEM:")) { // with the colon, which no Base64 has
		t.Errorf("its public half became another: %s", public)
	}
	to, err := recovery.ParseRecipient(public)
	if err != nil || to.ID() != identity.Recipient().ID() {
		t.Fatalf("ParseRecipient = %v", err)
	}
	want, file := backup(t, to)
	got, err := recovery.Open(identity, file)
	if err != nil || len(got.Entries) != len(want.Entries) {
		t.Errorf("Open = %v, %v", got, err)
	}
}

func TestAKeyOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	secret, err := identity(t).MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(secret)
	for name, headers := range map[string]map[string]string{
		"unknown": {"KEM": "MLKEM1024-P384"}, "empty": {"KEM": ""}, "and more": {"KEM": "MLKEM768-P256", "X": "y"}, "another header": {"X": "y"},
	} {
		file := pem.EncodeToMemory(&pem.Block{Type: block.Type, Headers: headers, Bytes: block.Bytes})
		if _, err := recovery.ParseIdentity(file); !errors.Is(err, recovery.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// TestOnlyWhatIsApproved runs the tests of this package in a process that may use nothing else.
func TestOnlyWhatIsApproved(t *testing.T) {
	t.Parallel()
	if fips140.Enforced() {
		t.Skip("this is that process")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestABackupOpens|^TestWhatTheFirst|^TestAFirstKey", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS")) != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}
