package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/backup"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/recovery"
)

const canary = "CANARY-9pL4tR8wB1cD5fG6hJ3kS0aYq"

// installation has the keys of one.
type installation struct {
	kek      *file.Key
	identity recovery.Identity
}

func newInstallation(t testing.TB, digit string) installation {
	t.Helper()
	k, err := file.Parse([]byte(strings.Repeat(digit, 64)))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := recovery.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return installation{k, identity}
}

func (i installation) byKEK() backup.Keys {
	return backup.Keys{KEK: func(id string) backup.Wrapper {
		if id != i.kek.ID() {
			return nil
		}
		return i.kek
	}}
}

func (i installation) byRecovery() backup.Keys { return backup.Keys{Identity: &i.identity} }

func (i installation) both() backup.Keys {
	return backup.Keys{KEK: i.byKEK().KEK, Identity: &i.identity}
}

// large is a table that takes several parts and chunks.
var large = bytes.Repeat([]byte(canary), 30000)

func manifest() backup.Manifest {
	return backup.Manifest{Schema: 13, Groups: []backup.Group{{UID: "u", Name: "default", Epoch: 1<<63 - 1, Revision: 7}}}
}

// make writes a backup of two tables, one of them empty.
func (i installation) make(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.Create(t.Context(), &out, backup.Options{At: time.Now(), Program: "test", KEK: i.kek, Recipient: i.identity.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"resources": content} {
		err = w.Table(name, []string{"a", "b"}, func(out io.Writer) (int64, error) {
			n, err := io.Copy(out, bytes.NewReader(body))
			return n / 32, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Table("changes", []string{"c"}, func(io.Writer) (int64, error) { return 0, nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.Keyrings([]byte("keyrings")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(manifest()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read answers what a backup holds.
func read(ctx context.Context, b []byte, keys backup.Keys) (backup.Contents, map[string][]byte, error) {
	r, err := backup.Open(ctx, bytes.NewReader(b), keys)
	if err != nil {
		return backup.Contents{}, nil, err
	}
	tables := map[string][]byte{}
	c, err := r.Each(func(name string, columns []string, content io.Reader) error {
		var err error
		tables[fmt.Sprint(name, columns)], err = io.ReadAll(content)
		return err
	})
	return c, tables, err
}

func TestEitherKeyOpensABackup(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "5")
	file := i.make(t, large)
	if bytes.Contains(file, []byte(canary)) {
		t.Error("the backup holds the content in the clear")
	}
	for name, keys := range map[string]backup.Keys{"kek": i.byKEK(), "recovery key": i.byRecovery(), "both": i.both()} {
		c, tables, err := read(t.Context(), file, keys)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(map[string][]byte{"resources[a b]": large, "changes[c]": {}}, tables); diff != "" {
			t.Errorf("%s: tables (-want +got):\n%.500s", name, diff)
		}
		if diff := cmp.Diff(manifest().Groups, c.Groups); diff != "" || c.Schema != 13 || string(c.Keyrings) != "keyrings" {
			t.Errorf("%s: schema %d, keyrings %q, groups (-want +got):\n%s", name, c.Schema, c.Keyrings, diff)
		}
		if got := c.Tables[0]; got.Rows != int64(len(large)/32) || got.Bytes != int64(len(large)) {
			t.Errorf("%s: table is %+v", name, got)
		}
	}
}

func TestOtherKeysAreRefusedByName(t *testing.T) {
	t.Parallel()
	i, other := newInstallation(t, "5"), newInstallation(t, "6")
	file := i.make(t, nil)
	crossed := other.make(t, nil)
	for name, tc := range map[string]struct {
		keys backup.Keys
		want string
	}{
		"no key":                            {backup.Keys{}, "key-encryption key " + i.kek.ID() + " or recovery key " + i.identity.Recipient().ID() + " is needed"},
		"another kek":                       {other.byKEK(), "is needed"},
		"another recovery key":              {other.byRecovery(), "it is sealed to recovery key " + i.identity.Recipient().ID()},
		"the kek, and another recovery key": {backup.Keys{KEK: i.byKEK().KEK, Identity: &other.identity}, "it is sealed to"},
		"another kek of that name":          {backup.Keys{KEK: func(string) backup.Wrapper { return other.kek }}, "unwrap the backup's key"},
	} {
		if _, _, err := read(t.Context(), file, tc.keys); !errors.Is(err, backup.ErrKey) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, _, err := read(t.Context(), crossed, other.both()); err != nil {
		t.Error(err)
	}
}

// TestNothingAlteredIsTaken flips bits all over, cuts off at every place near a boundary, and adds something.
func TestNothingAlteredIsTaken(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "5")
	small := i.make(t, []byte(canary))
	for at := range small {
		bent := bytes.Clone(small)
		bent[at] ^= 1 << (at % 8)
		for name, keys := range map[string]backup.Keys{"kek": i.byKEK(), "recovery key": i.byRecovery()} {
			if _, _, err := read(t.Context(), bent, keys); err == nil {
				t.Fatalf("byte %d of %d altered: it opens by %s", at, len(small), name)
			}
		}
		if _, _, err := read(t.Context(), small[:at], i.byKEK()); !errors.Is(err, backup.ErrMalformed) {
			t.Fatalf("cut off at %d: %v", at, err)
		}
	}
	if _, _, err := read(t.Context(), append(bytes.Clone(small), 0), i.byKEK()); !errors.Is(err, backup.ErrMalformed) {
		t.Errorf("with a byte more: %v", err)
	}
	long := i.make(t, large)
	for n := 0; n < len(long); n += 64<<10 + 28 { // a chunk with nonce and tag
		if _, _, err := read(t.Context(), long[:len(long)-n-1], i.byKEK()); !errors.Is(err, backup.ErrMalformed) {
			t.Errorf("cut off by %d: %v", n+1, err)
		}
	}
	future := bytes.Clone(small)
	future[len("KEYWARD BACKUP\n")] = 3
	if _, _, err := read(t.Context(), future, i.byKEK()); !errors.Is(err, backup.ErrFormat) {
		t.Errorf("of another form: %v", err)
	}
}

func TestATakerThatFailsEndsIt(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "5")
	r, err := backup.Open(t.Context(), bytes.NewReader(i.make(t, large)), i.byKEK())
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	if _, err := r.Each(func(string, []string, io.Reader) error { return full }); !errors.Is(err, full) {
		t.Errorf("Each = %v", err)
	}
}

func TestAKeyThatDoesNotGiveBackMakesNoBackup(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "5")
	var out bytes.Buffer
	_, err := backup.Create(t.Context(), &out, backup.Options{At: time.Now(), KEK: forgetful{i.kek}, Recipient: i.identity.Recipient()})
	if !errors.Is(err, backup.ErrKey) || out.Len() > 0 {
		t.Errorf("Create = %v, wrote %d bytes", err, out.Len())
	}
}

// forgetful wraps something else.
type forgetful struct{ *file.Key }

func (f forgetful) Wrap(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error) {
	return f.Key.Wrap(ctx, wrapContext, make([]byte, len(plaintext)))
}

func FuzzOpen(f *testing.F) {
	i := newInstallation(f, "5")
	f.Add(i.make(f, []byte(canary)))
	f.Add([]byte("KEYWARD BACKUP\n\x01\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, err := read(t.Context(), b, i.byKEK())
		if err == nil && len(c.Keyrings) == 0 {
			t.Error("a backup without keyrings opens")
		}
	})
}
