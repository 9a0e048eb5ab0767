package directory_test

import (
	"fmt"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy/directory"
)

func TestSample(t *testing.T) {
	t.Parallel()
	e := directory.New().Edit()
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"})
	put := func(typ string, from, n int) {
		for i := from; i < from+n; i++ {
			name := fmt.Sprint(typ, i)
			e.PutCredential(directory.Credential{UID: name, Name: name, Type: typ, Consumer: "alice", Hash: exchange.NameHash(typ, []byte(name)), Material: i})
		}
	}
	put("many", 0, 5000)
	put("one", 0, 1)
	before := e.Directory()
	e = before.Edit()
	put("one", 1, 1)
	e.RemoveConsumer("alice")
	gone := e.Directory()
	for _, tt := range []struct {
		name  string
		of    *directory.Directory
		typ   string
		least int
		most  int
	}{
		{"many", before, "many", 60, 64}, {"one", before, "one", 1, 1}, {"none", before, "none", 0, 0}, {"of nobody", gone, "many", 0, 0},
	} {
		got := tt.of.Sample(tt.typ)
		if len(got) < tt.least || len(got) > tt.most {
			t.Errorf("%s: %d are sampled", tt.name, len(got))
		}
		for _, c := range got {
			if c.Principal.How != tt.typ {
				t.Errorf("%s: has one of %s", tt.name, c.Principal.How)
			}
		}
		if again := tt.of.Sample(tt.typ); len(again) != len(got) || len(got) > 0 && again[0] != got[0] {
			t.Errorf("%s: another sample the second time", tt.name)
		}
	}
}
