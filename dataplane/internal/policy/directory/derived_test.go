package directory_test

import (
	"testing"

	"keyward.dev/dataplane/internal/policy/directory"
)

// What gateways of a group derive is the same, under any term that they share, and is no credential's hash.
func TestDerived(t *testing.T) {
	t.Parallel()
	one, two := term(t, 1), term(t, 2)
	with := func(terms ...*directory.Term) *directory.Directory {
		e := directory.New().Edit()
		e.SetTerms(terms)
		return e.Directory()
	}
	message := []byte("message")
	sum, ok := with(one).Derived("a", message)
	if !ok {
		t.Fatal("nothing is derived")
	}
	if other, ok := with(one).Derived("b", message); !ok || other == sum {
		t.Error("two purposes have one hash")
	}
	if sum == one.Hash(message) || sum == one.Hash([]byte("a")) {
		t.Error("it is the hash of a credential")
	}
	for _, tt := range []struct {
		name    string
		in      *directory.Directory
		purpose string
		message string
		sum     []byte
		want    bool
	}{
		{"it", with(one), "a", "message", sum[:], true},
		{"what it begins with", with(one), "a", "message", sum[:16], true},
		{"where there is a newer term", with(one, two), "a", "message", sum[:], true},
		{"where its term is gone", with(two), "a", "message", sum[:], false},
		{"for something else", with(one), "b", "message", sum[:], false},
		{"of another message", with(one), "a", "massage", sum[:], false},
		{"too little of it", with(one), "a", "message", sum[:15], false},
		{"nothing", with(one), "a", "message", nil, false},
		{"more than it", with(one), "a", "message", append(sum[:], 0), false},
		{"without terms", with(), "a", "message", sum[:], false},
	} {
		if got := tt.in.IsDerived(tt.purpose, []byte(tt.message), tt.sum); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if _, ok := with().Derived("a", message); ok {
		t.Error("something is derived from nothing")
	}
	e := with(one).Edit()
	e.SetLost(true)
	if _, ok := e.Directory().Derived("a", message); ok {
		t.Error("something is derived that other gateways may not know")
	}
}

// What cannot be read is counted by type, also when it comes and goes.
func TestComplete(t *testing.T) {
	t.Parallel()
	d := directory.New()
	for _, tt := range []struct {
		name               string
		edit               func(e *directory.Editor)
		keys, jwts, people bool
	}{
		{"nothing", func(*directory.Editor) {}, true, true, true},
		{"a key", func(e *directory.Editor) { e.SetUnreadable("1", "key-auth") }, false, true, true},
		{"again", func(e *directory.Editor) { e.SetUnreadable("1", "key-auth") }, false, true, true},
		{"another", func(e *directory.Editor) { e.SetUnreadable("2", "key-auth") }, false, true, true},
		{"one less", func(e *directory.Editor) { e.SetReadable("1"); e.SetReadable("1") }, false, true, true},
		{"of another type now", func(e *directory.Editor) { e.SetUnreadable("2", "jwt-auth") }, true, false, true},
		{"of nobody knows which", func(e *directory.Editor) { e.SetUnreadable("2", "") }, false, false, true},
		{"a consumer", func(e *directory.Editor) { e.SetReadable("2"); e.SetUnreadableConsumer("3") }, false, false, false},
		{"nothing again", func(e *directory.Editor) { e.SetReadable("3"); e.SetReadable("4") }, true, true, true},
	} {
		before := [3]bool{d.Complete("key-auth"), d.Complete("jwt-auth"), d.Complete("")}
		e := d.Edit()
		tt.edit(e)
		next := e.Directory()
		if got := [3]bool{d.Complete("key-auth"), d.Complete("jwt-auth"), d.Complete("")}; got != before {
			t.Errorf("%s: the directory before changes", tt.name)
		}
		if got, want := [3]bool{next.Complete("key-auth"), next.Complete("jwt-auth"), next.Complete("")}, [3]bool{tt.keys, tt.jwts, tt.people}; got != want {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
		d = next
	}
}
