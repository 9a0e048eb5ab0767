package ldapauth_test

import (
	"fmt"
	"testing"
	"time"
)

// TestGuessesCountWhileTheDirectoryIsAway: who is remembered gets in then, so that a guesser would be told what is not his
// password as often as he likes. One who comes with one password again and again has guessed once.
func TestGuessesCountWhileTheDirectoryIsAway(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	pol := p.build(t, p.config(), "a")
	p.want(t, pol, "alice", "wonderland", 0, 0, "")
	p.server.Stop()
	p.want(t, pol, "bob", "builder", 0, 503, "ldap_unreachable")
	for range 30 {
		p.want(t, pol, "bob", "builder", time.Second, 503, "ldap_down")
	}
	for i := range 10 {
		p.want(t, pol, "alice", fmt.Sprint("guess", i), time.Second, 503, "ldap_down")
	}
	p.want(t, pol, "alice", "guess", time.Second, 429, "too_many_attempts")
	p.want(t, pol, "alice", "wonderland", time.Second, 429, "too_many_attempts")
	p.want(t, pol, "bob", "builder", time.Second, 503, "ldap_down")
}
