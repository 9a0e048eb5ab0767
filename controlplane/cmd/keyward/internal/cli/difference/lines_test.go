package difference

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompareShowsALittleAroundWhatDiffers(t *testing.T) {
	t.Parallel()
	before := strings.Fields("a b c d e f g h i j k l m n")
	after := strings.Fields("a b c d e f X h i j k l m n Y")
	want := []string{" …", " d", " e", " f", "-g", "+X", " h", " i", " j", " …", " l", " m", " n", "+Y"}
	if diff := cmp.Diff(want, compare(before, after)); diff != "" {
		t.Errorf("compare() (-want +got):\n%s", diff)
	}
	if got := compare(before, before); got != nil {
		t.Errorf("compare() of equal texts = %q, want nothing", got)
	}
}

// FuzzEdits: whatever the texts, what is not added is the old one and what is not removed is the new one.
func FuzzEdits(f *testing.F) {
	f.Add("a\nb\nc", "a\nc\nd")
	f.Add("", "x")
	f.Add("x\nx\ny", "x\ny\nx")
	f.Fuzz(func(t *testing.T, old, new string) {
		before, after := strings.Split(old, "\n"), strings.Split(new, "\n")
		var was, is []string
		for _, l := range edits(before, after) {
			if l[0] != '+' {
				was = append(was, l[1:])
			}
			if l[0] != '-' {
				is = append(is, l[1:])
			}
		}
		if !slices.Equal(was, before) || !slices.Equal(is, after) {
			t.Errorf("edits(%q, %q) give %q and %q", before, after, was, is)
		}
	})
}
