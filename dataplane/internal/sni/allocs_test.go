//go:build !race

package sni_test

import (
	"testing"

	"keyward.dev/dataplane/internal/sni"
)

// Each response over TLS asks what is said of its host.
func TestLookingForTermsDoesNotAllocate(t *testing.T) {
	table := sni.New([]*sni.Certificate{named("a", "a.b.test").On(termsOf("a")), named("b", "*.b.test").On(termsOf("b"))}, nil)
	exact, wild, none := []byte("a.b.test"), []byte("x.b.test"), []byte("a.name.that.nobody.says.anything.of.test")
	if n := testing.AllocsPerRun(1000, func() {
		if table.Terms(exact) == nil || table.Terms(wild) == nil || table.Terms(none) != nil {
			t.Fatal("other terms")
		}
	}); n != 0 {
		t.Errorf("it makes %v allocations, want 0", n)
	}
}
