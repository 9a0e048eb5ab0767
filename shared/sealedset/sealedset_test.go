package sealedset_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/sealedset"
)

func seal(t testing.TB, key sealedset.Secret, aad, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := sealedset.NewSealWriter(&b, key, aad)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, key sealedset.Secret, aad, sealed []byte) ([]byte, error) {
	t.Helper()
	r, err := sealedset.NewOpenReader(bytes.NewReader(sealed), key, aad)
	if err != nil {
		t.Fatal(err)
	}
	return io.ReadAll(r)
}

func TestWhatWasSealedOpensWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	const chunk = sealedset.ChunkSize
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			key, aad, plain := sealedset.NewSecret(), []byte("header"), bytes.Repeat([]byte{7}, size)
			sealed := seal(t, key, aad, plain)
			if got, err := open(t, key, aad, sealed); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("opens as %d bytes, %v; want %d", len(got), err, size)
			}
			altered := bytes.Clone(sealed)
			altered[len(altered)-1] ^= 1
			first := min(chunk+16, len(sealed))
			for name, bad := range map[string][]byte{
				"altered": altered, "cut by a byte": sealed[:len(sealed)-1], "longer": append(bytes.Clone(sealed), 0),
				"a chunk twice": slices.Concat(sealed[:first], sealed), "without its first chunk": sealed[first:],
			} {
				if _, err := open(t, key, aad, bad); err == nil {
					t.Errorf("%s: it opens", name)
				}
			}
			if _, err := open(t, key, []byte("another"), sealed); err == nil {
				t.Error("it opens under another header")
			}
			if _, err := open(t, sealedset.NewSecret(), aad, sealed); err == nil {
				t.Error("it opens under another key")
			}
		})
	}
}

func TestWrappedKeyIsForOneHolderPurposeAndHeader(t *testing.T) {
	t.Parallel()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	holder, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key := sealedset.NewSecret()
	enc, wrapped, err := sealedset.Wrap(holder.PublicKey(), "purpose", key, []byte("header"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sealedset.Unwrap(holder, "purpose", enc, wrapped, []byte("header")); err != nil || got != key {
		t.Errorf("Unwrap() = another key, %v", err)
	}
	if _, err := sealedset.Unwrap(holder, "other", enc, wrapped, []byte("header")); err == nil {
		t.Error("it opens for another purpose")
	}
	if _, err := sealedset.Unwrap(holder, "purpose", enc, wrapped, []byte("other")); err == nil {
		t.Error("it opens under another header")
	}
}

func records(t testing.TB, b []byte) ([]*syncv1.Frame, error) {
	t.Helper()
	var got []*syncv1.Frame
	err := sealedset.ReadRecords(bytes.NewReader(b), func(f *syncv1.Frame) error { got = append(got, f); return nil })
	return got, err
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	want := []sealedset.Record{
		{Kind: "routes", UID: "u1", Bytes: []byte("body")},
		{Kind: "services", UID: "u2", Name: "lost"},
		{Kind: "routes", UID: "u3", Bytes: bytes.Repeat([]byte{1}, 200<<10)},
	}
	var b bytes.Buffer
	if err := sealedset.WriteRecords(&b, slices.Values(want)); err != nil {
		t.Fatal(err)
	}
	frames, err := records(t, b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var got []sealedset.Record
	for _, f := range frames {
		if f.GetUnreadable() == f.GetLast() {
			t.Errorf("%s says that it is unreadable and whole, or neither", f.GetUid())
		}
		got = append(got, sealedset.Record{Kind: f.GetKind(), UID: f.GetUid(), Name: f.GetName(), Bytes: f.GetBytes()})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	for n := range 20 {
		if _, err := records(t, b.Bytes()[:n]); err == nil {
			t.Errorf("%d bytes of it read as a whole", n)
		}
	}
	if _, err := records(t, append(b.Bytes(), 0)); err == nil {
		t.Error("it reads with something behind it")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	s := sealedset.Secret{1, 2, 3}
	if got := fmt.Sprintf("%v %+v %x %s %#v", s, s, s, s, s); got != "[secret] [secret] [secret] [secret] [secret]" {
		t.Errorf("it prints as %s", got)
	}
}

// FuzzReadRecords holds that whatever reads is written as something that reads the same.
func FuzzReadRecords(f *testing.F) {
	var b bytes.Buffer
	if err := sealedset.WriteRecords(&b, slices.Values([]sealedset.Record{{Kind: "k", UID: "u", Bytes: []byte("x")}, {Kind: "k", UID: "v", Name: "n"}})); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, in []byte) {
		frames, err := records(t, in)
		if err != nil {
			return
		}
		var again bytes.Buffer
		err = sealedset.WriteRecords(&again, func(yield func(sealedset.Record) bool) {
			for _, f := range frames {
				if !yield(sealedset.Record{Kind: f.GetKind(), UID: f.GetUid(), Name: f.GetName(), Bytes: f.GetBytes()}) {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if second, err := records(t, again.Bytes()); err != nil || len(second) != len(frames) {
			t.Fatalf("%d records read again as %d, %v", len(frames), len(second), err)
		}
	})
}
