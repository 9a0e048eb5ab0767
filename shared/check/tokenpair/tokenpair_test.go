package tokenpair_test

import (
	"strings"
	"testing"

	"keyward.dev/shared/check/tokenpair"
)

func TestToken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"visible":     {"v3cOV1jWglS0PFOrTcdr85bs1GP0e2yM", true},
		"marks":       {"!~", true},
		"nothing":     {"", false},
		"a space":     {"a b", false},
		"a zero":      {"a\x00b", false},
		"beyond":      {"ä", false},
		"the longest": {strings.Repeat("x", tokenpair.MaxToken), true},
		"too long":    {strings.Repeat("x", tokenpair.MaxToken+1), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tokenpair.Token(tt.text); got != tt.want {
				t.Errorf("Token() = %v", got)
			}
			if got := tokenpair.Token([]byte(tt.text)); got != tt.want {
				t.Errorf("Token() of bytes = %v", got)
			}
		})
	}
}

// FuzzPairsAreTold gives two pairs, of which the hashes must be made of the same only if they are the same.
func FuzzPairsAreTold(f *testing.F) {
	f.Add("s", "ab", "c", "s", "a", "bc")
	f.Add("s", "a", "b", "sa", "", "b")
	f.Add("s", "a", "b", "s", "a", "b")
	f.Fuzz(func(t *testing.T, s1, a1, b1, s2, a2, b2 string) {
		one := tokenpair.Append(nil, s1, []byte(a1), []byte(b1))
		two := tokenpair.Append(nil, s2, []byte(a2), []byte(b2))
		if same := s1 == s2 && a1 == a2 && b1 == b2; (string(one) == string(two)) != same {
			t.Errorf("%q and %q are made of %q and %q", []string{s1, a1, b1}, []string{s2, a2, b2}, one, two)
		}
		for _, other := range [][]byte{tokenpair.Access(s2, a2), tokenpair.Entry(s2, a2)} {
			if string(one) == string(other) {
				t.Errorf("the pair %q is made of %q, which is not that of a pair", []string{s1, a1, b1}, other)
			}
		}
		if tokenpair.Size(s1, []byte(a1), []byte(b1)) < len(one) {
			t.Error("Size() is less than what was appended")
		}
	})
}
