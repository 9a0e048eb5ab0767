package directory_test

import (
	"maps"
	"testing"

	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/policy/directory"
)

// marks are those of a directory by uid.
func marks(d *directory.Directory) map[string]*lastuse.Mark {
	all := map[string]*lastuse.Mark{}
	for part := range d.Parts() {
		maps.Insert(all, d.Marks(part))
	}
	return all
}

// A mark goes with its credential, whatever becomes of the consumer and of other credentials.
func TestMarksGoWithTheirCredentials(t *testing.T) {
	t.Parallel()
	in := term(t, 1)
	marked, unmarked := credential("alice", "c", "k", in), credential("alice", "stored", "s", in)
	marked.Used = &lastuse.Mark{}
	e := directory.New().Edit()
	e.SetTerms([]*directory.Term{in})
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"})
	e.PutCredential(marked)
	e.PutCredential(unmarked)
	d := e.Directory()
	edits := []struct {
		name string
		edit func(e *directory.Editor)
		want bool
	}{
		{"nothing", func(*directory.Editor) {}, true},
		{"the consumer changes", func(e *directory.Editor) {
			e.PutConsumer(directory.Consumer{UID: "u", Name: "alice", Groups: []string{"gold"}})
		}, true},
		{"another one has the same secret", func(e *directory.Editor) { e.PutCredential(credential("alice", "twin", "k", in)) }, true},
		{"that goes again", func(e *directory.Editor) { e.RemoveCredential("twin") }, true},
		{"the consumer goes", func(e *directory.Editor) { e.RemoveConsumer("alice") }, true},
		{"the consumer comes back", func(e *directory.Editor) { e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"}) }, true},
		{"it goes", func(e *directory.Editor) { e.RemoveCredential("c") }, false},
	}
	for _, tt := range edits { // one after the other
		e := d.Edit()
		tt.edit(e)
		d = e.Directory()
		got := marks(d)
		if tt.want && (len(got) != 1 || got["c"] != marked.Used) || !tt.want && len(got) != 0 {
			t.Fatalf("%s: marks %v, want that of c: %t", tt.name, got, tt.want)
		}
		if c := d.Credential("key-auth", []byte("k")); c != nil && c.Principal.Used != marked.Used {
			t.Errorf("%s: the principal has another mark", tt.name)
		}
	}
	if d.Credential("key-auth", []byte("s")).Principal.Used != nil {
		t.Error("a credential without a mark has one")
	}
}
