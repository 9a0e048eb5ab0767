package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/bundle"
	"keyward.dev/shared/sealedset"
)

var issued = time.UnixMilli(1_700_000_000_000)

// world is an installation with one group.
type world struct {
	signer bundle.Signer
	key    bundle.Key
	header bundle.Header
	file   []byte
}

func newWorld(t testing.TB) *world {
	t.Helper()
	signer, err := bundle.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	key, err := bundle.NewKey("pay", 3)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{signer: signer, key: key, header: bundle.Header{
		Group: "pay", Epoch: 7, Revision: 12, Digest: [32]byte{9}, KeyVersion: 3, Issued: issued, Expires: issued.Add(time.Hour),
	}}
	w.file = w.write(t, w.key, w.signer)
	return w
}

func (w *world) write(t testing.TB, key bundle.Key, signer bundle.Signer) []byte {
	t.Helper()
	var b bytes.Buffer
	records := []sealedset.Record{{Kind: "routes", UID: "u1", Bytes: []byte("secret-route")}, {Kind: "services", UID: "u2", Name: "lost"}}
	if err := bundle.Write(&b, w.header, key, signer, slices.Values(records)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// open does what a gateway of the group does.
func (w *world) open(file []byte, group string, at time.Time, keys ...bundle.Key) (*bundle.Bundle, []string, error) {
	b, err := bundle.Verify(file, w.signer.Public())
	if err != nil {
		return nil, nil, err
	}
	if err := b.Admit(group, at); err != nil {
		return nil, nil, err
	}
	var uids []string
	err = b.Records(keys, func(f *syncv1.Frame) error { uids = append(uids, f.GetUid()); return nil })
	return b, uids, err
}

func TestABundleOpensForItsGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	older, err := bundle.NewKey("pay", 2)
	if err != nil {
		t.Fatal(err)
	}
	b, uids, err := w.open(w.file, "pay", issued.Add(time.Minute), older, w.key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w.header, b.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"u1", "u2"}, uids); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if !b.SealedTo(w.key) || b.SealedTo(older) || b.SealedTo(mustKey(t, "pay", 3)) {
		t.Error("SealedTo() does not tell the key from others")
	}
	if _, _, err := w.open(w.file, "pay", issued, mustKey(t, "pay", 3), w.key); err != nil {
		t.Errorf("it does not open behind another key of its version: %v", err)
	}
	if bytes.Contains(w.file, []byte("secret-route")) {
		t.Error("it holds a record in the clear")
	}
}

func TestWhatIsWrongWithABundleIsRefused(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	flipped := func(i int) []byte { b := bytes.Clone(w.file); b[i] ^= 1; return b }
	later := bytes.Clone(w.file)
	later[9]++
	foreign := w.write(t, w.key, other.signer)
	for name, c := range map[string]struct {
		file  []byte
		group string
		at    time.Time
		key   bundle.Key
		want  sealedset.Reason
	}{
		"its header altered":             {file: flipped(14), want: sealedset.Signature},
		"its records altered":            {file: flipped(len(w.file) - 80), want: sealedset.Signature},
		"its signature altered":          {file: flipped(len(w.file) - 1), want: sealedset.Signature},
		"cut off":                        {file: w.file[:len(w.file)-1], want: sealedset.Signature},
		"longer":                         {file: append(bytes.Clone(w.file), 0), want: sealedset.Signature},
		"empty":                          {file: []byte{}, want: sealedset.Damaged},
		"something else":                 {file: bytes.Repeat([]byte("x"), 500), want: sealedset.Damaged},
		"of a later version":             {file: later, want: sealedset.Version},
		"signed by another":              {file: foreign, want: sealedset.Signature},
		"of another group":               {group: "shop", want: sealedset.OtherGroup},
		"expired":                        {at: issued.Add(time.Hour), want: sealedset.Expired},
		"not yet issued":                 {at: issued.Add(-time.Hour), want: sealedset.Future},
		"another key of that version":    {key: other.key, want: sealedset.OtherKey},
		"without the key of its version": {key: mustKey(t, "pay", 4), want: sealedset.OtherKey},
		"with another group's key":       {key: mustKey(t, "shop", 3), want: sealedset.OtherKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, group, at, key := c.file, c.group, c.at, c.key
			if file == nil {
				file = w.file
			}
			if group == "" {
				group = "pay"
			}
			if at.IsZero() {
				at = issued.Add(time.Minute)
			}
			if key.Version == 0 {
				key = w.key
			}
			_, uids, err := w.open(file, group, at, key)
			refused, ok := errors.AsType[*sealedset.RefusedError](err)
			if !ok || refused.Reason != c.want || len(uids) > 0 {
				t.Errorf("open() = %v, %v; want it refused for %s", uids, err, c.want)
			}
		})
	}
}

func mustKey(t testing.TB, group string, version uint32) bundle.Key {
	t.Helper()
	k, err := bundle.NewKey(group, version)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysComeBackFromTheirFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := slices.Concat(mustKey(t, "pay", 4).MarshalPEM(), w.key.MarshalPEM())
	keys, err := bundle.ParseKeys(file)
	if err != nil || len(keys) != 2 || keys[1].Version != 3 {
		t.Fatalf("ParseKeys() = %v, %v", keys, err)
	}
	if _, _, err := w.open(w.file, "pay", issued, keys...); err != nil {
		t.Errorf("a key that was written and read opens nothing: %v", err)
	}
	public, err := bundle.MarshalSigner(w.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bundle.ParseSigner(public); err != nil || !got.Equal(w.signer.Public()) {
		t.Errorf("ParseSigner() = another key, %v", err)
	}
	again, err := bundle.SignerFrom(w.signer.Seed())
	if err != nil || !again.Public().Equal(ed25519.PublicKey(w.signer.Public())) {
		t.Errorf("SignerFrom(Seed()) = another signer, %v", err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), public, bytes.Replace(file, []byte("Version: 3"), []byte("Version: 0"), 1)} {
		if _, err := bundle.ParseKeys(bad); err == nil {
			t.Errorf("ParseKeys(%q) = nil", bad)
		}
	}
	for _, bad := range [][]byte{nil, file, slices.Concat(public, public)} {
		if _, err := bundle.ParseSigner(bad); err == nil {
			t.Errorf("ParseSigner of %d bytes = nil", len(bad))
		}
	}
	if got := fmt.Sprintf("%v %x %+v %#v", w.key, w.key, w.signer, w.signer); got != "[bundle key 3 of group pay] [bundle key 3 of group pay] [bundle signer] [bundle signer]" {
		t.Errorf("they print as %s", got)
	}
}

// FuzzVerify signs whatever comes, so that the parser sees what a fault of ours could sign: nothing but a sound bundle may
// open, and none may make it panic.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	f.Add(w.file[:len(w.file)-ed25519.SignatureSize])
	f.Add(w.file[:60])
	private := ed25519.NewKeyFromSeed(w.signer.Seed())
	f.Fuzz(func(t *testing.T, content []byte) {
		file := append(bytes.Clone(content), bundle.Sign(private, content)...)
		b, err := bundle.Verify(file, w.signer.Public())
		if err != nil {
			return
		}
		_ = b.Admit("pay", issued)
		_ = b.Records([]bundle.Key{w.key}, func(*syncv1.Frame) error { return nil })
	})
}

// FuzzParseKeys holds that keys that parse are written as they were.
func FuzzParseKeys(f *testing.F) {
	f.Add(newWorld(f).key.MarshalPEM())
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = bundle.ParseSigner(in)
		keys, err := bundle.ParseKeys(in)
		if err != nil {
			return
		}
		for _, k := range keys {
			again, err := bundle.ParseKeys(k.MarshalPEM())
			if err != nil || len(again) != 1 || again[0].Group != k.Group || again[0].Version != k.Version {
				t.Fatalf("%v reads again as %v, %v", k, again, err)
			}
		}
	})
}
