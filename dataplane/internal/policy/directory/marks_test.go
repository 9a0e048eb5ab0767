package directory_test

import (
	"testing"
	"time"

	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/policy/directory"
)

// uses are what is to be reported of a directory, by uid.
func uses(d *directory.Directory) map[string]time.Time {
	all := map[string]time.Time{}
	for _, u := range lastuse.NewWalk().Take(d) {
		all[u.UID] = u.At
	}
	return all
}

// What is known of a use goes with its credential, whatever becomes of the consumer and of other credentials.
func TestUsesGoWithTheirCredentials(t *testing.T) {
	t.Parallel()
	in, at := term(t, 1), time.Unix(1_800_000_000, 0)
	marked, unmarked := credential("alice", "c", "k", in), credential("alice", "stored", "s", in)
	marked.Used = &lastuse.Mark{}
	e := directory.New().Edit()
	e.SetTerms([]*directory.Term{in})
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"})
	e.PutCredential(marked)
	e.PutCredential(unmarked)
	d := e.Directory()
	note := func(key string, at time.Time) {
		if c := d.Credential("key-auth", []byte(key)); c != nil {
			c.Principal.Used.Note(at)
		}
	}
	note("s", at) // nobody wants to know
	if got := uses(d); len(got) != 0 {
		t.Fatalf("before any use: %v", got)
	}
	note("k", at)
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
		{"it changes itself", func(e *directory.Editor) {
			changed := marked
			changed.Used, changed.Expires = d.Mark("c"), at.Add(9000*time.Hour)
			e.PutCredential(changed)
		}, true},
		{"it goes", func(e *directory.Editor) { e.RemoveCredential("c") }, false},
	}
	for _, tt := range edits { // one after the other
		e := d.Edit()
		tt.edit(e)
		d = e.Directory()
		at = at.Add(lastuse.Period)
		note("k", at)
		if d.Credential("key-auth", []byte("k")) == nil {
			at = at.Add(-lastuse.Period) // who is not found is not used
		}
		got := uses(d)
		if tt.want && (len(got) != 1 || !got["c"].Equal(at)) || !tt.want && len(got) != 0 {
			t.Fatalf("%s: uses %v, want that of c at %s: %t", tt.name, got, at, tt.want)
		}
	}
}

// BenchmarkWalk is what a report looks at.
func BenchmarkWalk(b *testing.B) {
	d, w := large(b, 100_000), lastuse.NewWalk()
	for b.Loop() {
		w.Take(d)
	}
}
