package admission_test

import (
	"strings"
	"testing"
)

// TestNobodySharesAnotherName has two consumers with one name of another sort, one after the other and together.
func TestNobodySharesAnotherName(t *testing.T) {
	t.Parallel()
	consumer := func(name, fields string) string { return "  - {name: " + name + ", " + fields + "}\n" }
	for _, tt := range []struct {
		name, first, second, fault string
	}{
		{"username", "username: x y", "username: x y", "username: consumers/one has the same"},
		{"custom id", "custom_id: '7'", "custom_id: '7'", "custom_id: consumers/one has the same"},
		{"case", "username: x", "username: X", ""},
		{"one of each sort", "username: x", "custom_id: x", ""},
		{"the other's name", "username: x", "username: one", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const head = "group: g\nconsumers:\n"
			for doc, at := range map[string]string{
				head + consumer("one", tt.first) + consumer("two", tt.second): "consumers[1].",
				head + consumer("two", tt.second):                             "consumers[0].",
			} {
				g := newGroup(t)
				if at == "consumers[0]." {
					g.must(head + consumer("one", tt.first))
				}
				_, vs := g.apply(doc, false)
				if got := reasons(vs); got != "" && got != at+tt.fault || (got == "") != (tt.fault == "") {
					t.Errorf("refused with %q, want %q", got, tt.fault)
				}
			}
			g := newGroup(t)
			g.must(head + consumer("one", tt.first))
			g.must(head + consumer("one", tt.first)) // it does not share with itself
			g.must(head + consumer("one", "groups: [a]"))
			g.must(head + consumer("two", tt.first)) // the name is free again
		})
	}
}

func TestOtherNamesHaveNoControlCharacters(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	_, vs := g.apply("group: g\nconsumers:\n  - {name: one, username: \"a\\nb\", custom_id: \""+strings.Repeat("x", 257)+"\"}\n", false)
	if got := reasons(vs); !strings.Contains(got, "consumers[0].username") || !strings.Contains(got, "consumers[0].custom_id") {
		t.Errorf("refused with %q, want both told", got)
	}
}
