package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/problem"
)

func TestEveryCodeHasItsOwnStatusAndBack(t *testing.T) {
	t.Parallel()
	for _, c := range problem.Codes() {
		if got := problem.CodeOf(c.Status()); got != c {
			t.Errorf("CodeOf(%d) = %q, want %q", c.Status(), got, c)
		}
		if c.Title() == "" {
			t.Errorf("code %q has no title", c)
		}
	}
	for status, want := range map[int]problem.Code{418: problem.Malformed, 502: problem.Internal, 0: problem.Internal} {
		if got := problem.CodeOf(status); got != want {
			t.Errorf("CodeOf(%d) = %q, want %q", status, got, want)
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	p := problem.FromViolations([]problem.Violation{{Path: "a[1].b", Reason: "no", Line: 3, Column: 4, Resource: "routes/x"}})
	var members map[string]any
	if err := json.Unmarshal(p.JSON(), &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"type", "title", "status", "detail", "code", "violations"} {
		if members[name] == nil {
			t.Errorf("member %q is missing in %s", name, p.JSON())
		}
	}
	got, err := problem.Parse(p.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
}

func TestOfHidesErrorsWithoutAProblem(t *testing.T) {
	t.Parallel()
	if p := problem.Of(errors.New("password is x")); p.Code != problem.Internal || p.Detail != "" {
		t.Errorf("Of(plain error) = %+v, want an internal problem without detail", p)
	}
	err := fmt.Errorf("put: %w", problem.Wrap(problem.Unavailable, "try later", io.ErrUnexpectedEOF))
	if p := problem.Of(err); p.Status != 503 || p.Detail != "try later" {
		t.Errorf("Of(wrapped) = %+v", p)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if problem.Of(nil) != nil || problem.Violated(nil) != nil {
		t.Error("nil is not nil")
	}
}

func TestFromViolationsChoosesTheCode(t *testing.T) {
	t.Parallel()
	invalid, conflict := problem.Violation{Reason: "a"}, problem.Violation{Reason: "b", Code: problem.Conflict}
	pre := problem.Violation{Reason: "c", Code: problem.PreconditionFailed}
	for _, tt := range []struct {
		vs   []problem.Violation
		want problem.Code
	}{
		{[]problem.Violation{invalid}, problem.Invalid},
		{[]problem.Violation{conflict}, problem.Conflict},
		{[]problem.Violation{conflict, invalid}, problem.Invalid},
		{[]problem.Violation{invalid, pre}, problem.PreconditionFailed},
	} {
		if got := problem.FromViolations(tt.vs).Code; got != tt.want {
			t.Errorf("FromViolations(%v).Code = %q, want %q", tt.vs, got, tt.want)
		}
	}
}

func TestSortIsByPlaceAndDropsRepetitions(t *testing.T) {
	t.Parallel()
	var vs []problem.Violation
	for _, p := range []string{"a[10].x", "a[2].y", "a[2]", "", "b", "a[2].y"} {
		vs = append(vs, problem.Violation{Path: p, Reason: "r"})
	}
	var got []string
	for _, v := range problem.Sort(vs) {
		got = append(got, v.Path)
	}
	if want := []string{"", "a[2]", "a[2].y", "a[10].x", "b"}; !slices.Equal(got, want) {
		t.Errorf("Sort = %q, want %q", got, want)
	}
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true}, {"a", "a.b", true}, {"a[1].b", "a[1]", true}, {"a", "ab", false}, {"a[1]", "a[10]", false}, {"", "x", true},
	} {
		if got := problem.Overlap(tt.a, tt.b); got != tt.want {
			t.Errorf("Overlap(%q, %q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
