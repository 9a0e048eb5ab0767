package ldapauth_test

import "testing"

// TestGuessesAreCountedOverPushes: who has guessed too often goes on being refused when the policy is built anew, changed or not,
// and elsewhere with the same directory.
func TestGuessesAreCountedOverPushes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.build(t, p.config(), "a")
	for range 10 {
		p.want(t, first, "bob", "guess", 0, 401, "unauthenticated")
	}
	changed := p.config()
	changed.Groups = nil
	p.want(t, p.build(t, p.config(), "a"), "bob", "builder", 0, 429, "too_many_attempts")
	p.want(t, p.build(t, changed, "a"), "bob", "builder", 0, 429, "too_many_attempts")
	p.want(t, p.build(t, p.config(), "b"), "bob", "builder", 0, 429, "too_many_attempts")
	p.want(t, first, "alice", "wonderland", 0, 0, "")
}
