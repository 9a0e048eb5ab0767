package keyring_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/keyring"
)

func place() keyring.Place {
	return keyring.Place{Purpose: "resources", Group: "g-1", Kind: "routes", UID: "u-1", Revision: 7}
}

func clearPart() keyring.Clear {
	return keyring.Clear{Name: "hello", Labels: map[string]string{"stage": "prod", "team": "a"}}
}

func mustSeal(t testing.TB, r *keyring.Ring, p keyring.Place, plaintext []byte) []byte {
	t.Helper()
	sealed, err := r.Seal(p, plaintext)
	if err != nil {
		t.Fatalf("Seal: %v", err)
	}
	return sealed
}

func wantErr(t *testing.T, what string, got []byte, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("Open of %s: err = %v, want %v", what, err, want)
	}
	if got != nil {
		t.Errorf("Open of %s gave %d bytes along with the error", what, len(got))
	}
}

func TestOpenGivesBackWhatWasSealed(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	for _, n := range []int{0, 1, 15, 16, 17, 1024, 1 << 20} {
		plaintext := bytes.Repeat([]byte{'x'}, n)
		sealed := mustSeal(t, r, place(), plaintext)
		if len(sealed) != n+keyring.Overhead {
			t.Errorf("Seal of %d bytes gave %d, want %d", n, len(sealed), n+keyring.Overhead)
		}
		got, err := r.Open(place(), sealed)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("Open of %d bytes: got %d bytes, err %v", n, len(got), err)
		}
	}
}

func TestCiphertextHidesTheContent(t *testing.T) {
	t.Parallel()
	canary := []byte("canary-3fb1c2")
	sealed := mustSeal(t, keyring.New(), place(), bytes.Repeat(canary, 10))
	if bytes.Contains(sealed, canary[:6]) {
		t.Error("ciphertext contains the plain text")
	}
}

func TestEqualContentsSealDifferently(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	seen := map[string]bool{}
	for range 200 {
		sealed := mustSeal(t, r, place(), []byte("same"))
		for _, part := range []string{"salt" + string(sealed[5:37]), "nonce" + string(sealed[37:49]), "body" + string(sealed[49:])} {
			if seen[part] {
				t.Fatalf("a %s came twice", part[:4])
			}
			seen[part] = true
		}
	}
}

func TestMovedCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	sealed := mustSeal(t, r, place(), []byte("content"))
	for name, change := range map[string]func(*keyring.Place){
		"another table":      func(p *keyring.Place) { p.Purpose = "changes" },
		"another group":      func(p *keyring.Place) { p.Group = "g-2" },
		"another kind":       func(p *keyring.Place) { p.Kind = "services" },
		"another uid":        func(p *keyring.Place) { p.UID = "u-2" },
		"a later revision":   func(p *keyring.Place) { p.Revision++ },
		"an older revision":  func(p *keyring.Place) { p.Revision-- },
		"a shifted boundary": func(p *keyring.Place) { p.Kind, p.UID = "route", "su-1" },
	} {
		p := place()
		change(&p)
		got, err := r.Open(p, sealed)
		wantErr(t, name, got, err, keyring.ErrDamaged)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	r := keyring.New().AddTerm()
	sealed := mustSeal(t, r, place(), []byte("content"))
	for i := range sealed {
		for bit := range 8 {
			flipped := bytes.Clone(sealed)
			flipped[i] ^= 1 << bit
			if got, err := r.Open(place(), flipped); err == nil || got != nil {
				t.Errorf("bit %d of byte %d flipped: opened", bit, i)
			}
		}
	}
}

func TestTruncatedAndExtendedCiphertextDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	sealed := mustSeal(t, r, place(), []byte("content"))
	for n := range sealed {
		if got, err := r.Open(place(), sealed[:n]); err == nil || got != nil {
			t.Errorf("first %d of %d bytes opened", n, len(sealed))
		}
	}
	got, err := r.Open(place(), append(bytes.Clone(sealed), 0))
	wantErr(t, "one byte more", got, err, keyring.ErrDamaged)
	got, err = r.Open(place(), nil)
	wantErr(t, "nothing", got, err, keyring.ErrMalformed)
}

func TestForeignRingDoesNotOpen(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, keyring.New(), place(), []byte("content"))
	got, err := keyring.New().Open(place(), sealed)
	wantErr(t, "a foreign ring's", got, err, keyring.ErrDamaged)
}

func TestRenamedAndRelabelledRowDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	sealed, err := r.SealRow(place(), clearPart(), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.OpenRow(place(), clearPart(), sealed); err != nil || string(got) != "content" {
		t.Fatalf("OpenRow = %q, %v", got, err)
	}
	for name, tc := range map[string]struct {
		clear keyring.Clear
		want  error
	}{
		"renamed":         {keyring.Clear{Name: "other", Labels: clearPart().Labels}, keyring.ErrRenamed},
		"without labels":  {keyring.Clear{Name: "hello"}, keyring.ErrRelabelled},
		"changed label":   {keyring.Clear{Name: "hello", Labels: map[string]string{"stage": "test", "team": "a"}}, keyring.ErrRelabelled},
		"one label less":  {keyring.Clear{Name: "hello", Labels: map[string]string{"stage": "prod"}}, keyring.ErrRelabelled},
		"one label more":  {keyring.Clear{Name: "hello", Labels: map[string]string{"stage": "prod", "team": "a", "x": ""}}, keyring.ErrRelabelled},
		"swapped in pair": {keyring.Clear{Name: "hello", Labels: map[string]string{"stage": "a", "team": "prod"}}, keyring.ErrRelabelled},
	} {
		got, err := r.OpenRow(place(), tc.clear, sealed)
		wantErr(t, name, got, err, tc.want)
	}
}

func TestNoLabelsAndEmptyLabelsAreTheSame(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	sealed, err := r.SealRow(place(), keyring.Clear{Name: "n", Labels: map[string]string{}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.OpenRow(place(), keyring.Clear{Name: "n"}, sealed); err != nil {
		t.Error(err)
	}
}

func TestNewTermSealsAndOldTermsOpen(t *testing.T) {
	t.Parallel()
	first := keyring.New()
	old := mustSeal(t, first, place(), []byte("old"))
	second := first.AddTerm()
	fresh := mustSeal(t, second, place(), []byte("new"))
	if term, _ := keyring.Term(fresh); term != 2 || second.Newest() != 2 || second.Version() != 2 {
		t.Errorf("after AddTerm: sealed with %d, newest %d, version %d; want 2, 2, 2", term, second.Newest(), second.Version())
	}
	for want, sealed := range map[string][]byte{"old": old, "new": fresh} {
		if got, err := second.Open(place(), sealed); err != nil || string(got) != want {
			t.Errorf("Open = %q, %v; want %q", got, err, want)
		}
	}
	if first.Newest() != 1 || first.Version() != 1 {
		t.Error("AddTerm changed its receiver")
	}
	got, err := first.Open(place(), fresh)
	wantErr(t, "a newer term by an older ring", got, err, keyring.ErrUnknownTerm)
}

func TestRemovedTermOpensNothingAndStillVerifies(t *testing.T) {
	t.Parallel()
	first := keyring.New()
	old, mac := mustSeal(t, first, place(), []byte("old")), first.MAC("audit", []byte("row"))
	second := first.AddTerm()
	third, err := second.RemoveTerm(1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := third.Open(place(), old)
	wantErr(t, "a removed term", got, err, keyring.ErrUnknownTerm)
	if _, err := second.Open(place(), old); err != nil {
		t.Errorf("RemoveTerm changed its receiver: %v", err)
	}
	if !third.VerifyMAC(mac, "audit", []byte("row")) {
		t.Error("a MAC of the removed term does not verify")
	}
	if !slices.Equal(third.Terms(), []uint32{2}) || third.Version() != 3 {
		t.Errorf("terms %v, version %d; want [2], 3", third.Terms(), third.Version())
	}
	if bytes.Contains(third.Marshal(), first.Marshal()[14:46]) {
		t.Error("the removed key is still in the ring")
	}
	if _, err := third.RemoveTerm(2); !errors.Is(err, keyring.ErrLastTerm) {
		t.Errorf("removing the newest term: %v", err)
	}
	for _, n := range []uint32{1, 9} {
		if _, err := third.RemoveTerm(n); !errors.Is(err, keyring.ErrUnknownTerm) {
			t.Errorf("removing term %d: %v", n, err)
		}
	}
}

func TestMACsAreBoundToPurposeAndParts(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	mac := r.MAC("heads", []byte("ab"), []byte("c"))
	if !r.VerifyMAC(mac, "heads", []byte("ab"), []byte("c")) || len(mac) != keyring.MACSize {
		t.Fatal("the right MAC does not verify")
	}
	if !r.AddTerm().VerifyMAC(mac, "heads", []byte("ab"), []byte("c")) {
		t.Error("a later ring does not verify it")
	}
	for name, ok := range map[string]bool{
		"other purpose":    r.VerifyMAC(mac, "audit", []byte("ab"), []byte("c")),
		"other boundary":   r.VerifyMAC(mac, "heads", []byte("a"), []byte("bc")),
		"one part":         r.VerifyMAC(mac, "heads", []byte("abc")),
		"other ring":       keyring.New().VerifyMAC(mac, "heads", []byte("ab"), []byte("c")),
		"empty":            r.VerifyMAC(nil, "heads", []byte("ab"), []byte("c")),
		"truncated":        r.VerifyMAC(mac[:35], "heads", []byte("ab"), []byte("c")),
		"purpose and part": r.VerifyMAC(r.MAC("head", []byte("s")), "heads", nil),
	} {
		if ok {
			t.Errorf("%s verifies", name)
		}
	}
	for i := range mac {
		flipped := bytes.Clone(mac)
		flipped[i] ^= 1
		if r.VerifyMAC(flipped, "heads", []byte("ab"), []byte("c")) {
			t.Errorf("MAC with byte %d flipped verifies", i)
		}
	}
}

func TestMarshalledRingComesBackWhole(t *testing.T) {
	t.Parallel()
	r, err := keyring.New().AddTerm().AddTerm().RemoveTerm(2)
	if err != nil {
		t.Fatal(err)
	}
	sealed := mustSeal(t, r, place(), []byte("content"))
	back, err := keyring.Unmarshal(r.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !back.Equal(r) || back.Equal(keyring.New()) {
		t.Error("Unmarshal(Marshal(r)) is not r")
	}
	if got, err := back.Open(place(), sealed); err != nil || string(got) != "content" {
		t.Errorf("Open = %q, %v", got, err)
	}
}

func TestMalformedRingIsRefused(t *testing.T) {
	t.Parallel()
	good := keyring.New().AddTerm().Marshal()
	for name, change := range map[string]func([]byte) []byte{
		"empty":                func([]byte) []byte { return nil },
		"other format":         func(b []byte) []byte { b[0] = 2; return b },
		"no version":           func(b []byte) []byte { clear(b[1:5]); return b },
		"no terms":             func(b []byte) []byte { clear(b[5:9]); return b[:9] },
		"too many terms":       func(b []byte) []byte { b[5] = 0xff; return b },
		"truncated":            func(b []byte) []byte { return b[:len(b)-1] },
		"extended":             func(b []byte) []byte { return append(b, 0) },
		"terms out of order":   func(b []byte) []byte { binary.BigEndian.PutUint32(b[9:], 3); return b },
		"term zero":            func(b []byte) []byte { binary.BigEndian.PutUint32(b[9:], 0); return b },
		"unknown flag":         func(b []byte) []byte { b[13] = 2; return b },
		"newest term removed":  func(b []byte) []byte { b[9+69+4] = 1; return b },
		"negative version":     func(b []byte) []byte { b[1] = 0x80; return b },
		"count without terms":  func(b []byte) []byte { return b[:9] },
		"terms without counts": func(b []byte) []byte { return b[:4] },
	} {
		if _, err := keyring.Unmarshal(change(bytes.Clone(good))); !errors.Is(err, keyring.ErrMalformedRing) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	key := fmt.Sprintf("%v", r.Marshal()[14:20])
	key = strings.Trim(key, "[]")
	for _, s := range []string{fmt.Sprint(r), fmt.Sprintf("%+v", r), fmt.Sprintf("%#v", r)} {
		if strings.Contains(s, key) || !strings.HasPrefix(s, "ring version 1") {
			t.Errorf("printed: %s", s)
		}
	}
}

func TestErrorsNameThePlaceAndNotTheContent(t *testing.T) {
	t.Parallel()
	r := keyring.New()
	_, err := keyring.New().Open(place(), mustSeal(t, r, place(), []byte("canary-content")))
	for _, want := range []string{"resources", "routes", "u-1", "revision 7"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("error %q holds content", err)
	}
}

func TestARewrappedCiphertextIsUnderTheNewestTermOfTheSamePlace(t *testing.T) {
	t.Parallel()
	first := keyring.New()
	old := mustSeal(t, first, place(), []byte("content"))
	second := first.AddTerm()
	sealed, err := second.Rewrap(place(), old)
	if err != nil {
		t.Fatal(err)
	}
	if term, err := keyring.Term(sealed); term != 2 || err != nil {
		t.Errorf("it is under term %d, %v", term, err)
	}
	if got, err := second.Open(place(), sealed); err != nil || string(got) != "content" {
		t.Errorf("Open = %q, %v", got, err)
	}
	elsewhere := place()
	elsewhere.UID = "u-2"
	if got, err := second.Rewrap(elsewhere, old); !errors.Is(err, keyring.ErrDamaged) || got != nil {
		t.Errorf("a ciphertext of another place was rewrapped: %v", err)
	}
}

func TestARingFollowsOnlyWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	first := keyring.New()
	second := first.AddTerm()
	third, err := second.RemoveTerm(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		newer, older *keyring.Ring
		want         bool
	}{
		"a term more":            {second, first, true},
		"a term less":            {third, second, true},
		"two steps":              {third, first, false},
		"itself":                 {second, second, false},
		"the other way round":    {first, second, false},
		"a term comes back":      {second.AddTerm(), third, false},
		"another ring's term":    {keyring.New().AddTerm(), first, false},
		"another second term":    {first.AddTerm().AddTerm(), second, false},
		"a term more after less": {third.AddTerm(), third, true},
	} {
		if got := c.newer.Follows(c.older); got != c.want {
			t.Errorf("%s: Follows = %v, want %v", name, got, c.want)
		}
	}
	if got := third.Verifying(); !slices.Equal(got, []uint32{1}) || first.Verifying() != nil {
		t.Errorf("Verifying = %v, %v", got, first.Verifying())
	}
}
