package file_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/kek/file"
)

func TestParseList(t *testing.T) {
	t.Parallel()
	const one, two = "qZ7xV2mN9pL4tR8wB1cD5fG9hJ3kS6yA", "0123456789abcdef0123456789abcdee"
	id := func(raw string) string {
		t.Helper()
		k, err := file.Parse([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		return k.ID()
	}
	for _, tt := range []struct {
		name, text string
		want       []string
		fault      string
	}{
		{name: "the newest first", text: one + "\n" + two + "\n", want: []string{id(one), id(two)}},
		{name: "the other order", text: "\n" + two + "\r\n\n" + one, want: []string{id(two), id(one)}},
		{name: "characters are not hexadecimal", text: two, want: []string{id(two)}},
		{name: "hexadecimal", text: hex.EncodeToString([]byte(one)), want: []string{id(one)}},
		{name: "of AES-128", text: one + "\nedd1c9f0985e76a2\n", fault: "line 2: has 16 characters"},
		{name: "too short", text: one[:31], fault: "line 1: "},
		{name: "too long", text: one + "x", fault: "line 1: "},
		{name: "one letter", text: strings.Repeat("a", 32), fault: "line 1: can be guessed"},
		{name: "digits", text: "01234567890123456789012345678901", fault: "line 1: can be guessed"},
		{name: "with a space", text: one[:15] + " " + one[16:], fault: "line 1: "},
		{name: "not ASCII", text: one[:30] + "é", fault: "line 1: "},
		{name: "nothing", text: "\n \n", fault: "there is no key"},
		{name: "too many", text: strings.Repeat(one+"\n", 17), fault: "more than 16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys, err := file.ParseList([]byte(tt.text))
			var got []string
			for _, k := range keys {
				got = append(got, k.ID())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != (tt.fault != "") {
				t.Errorf("ParseList() = %v (-want +got):\n%s", err, diff)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.fault) || strings.Contains(err.Error(), one[:8])) {
				t.Errorf("the fault is %v, want %q", err, tt.fault)
			}
		})
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("qZ7xV2mN9pL4tR8wB1cD5fG9hJ3kS6yA\n\n0123456789abcdef0123456789abcdee"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if keys, err := file.ParseList(b); (err == nil) != (len(keys) > 0) {
			t.Errorf("ParseList(%q) = %d keys and %v", b, len(keys), err)
		}
	})
}
