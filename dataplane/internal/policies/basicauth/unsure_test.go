package basicauth_test

import (
	"fmt"
	"sync"
	"testing"

	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// TestGuessesCountWhileNoHashCanBeComputed: who is remembered gets in then, so that a guesser would be told what is not his
// password as often as he likes. One who comes with one password again and again has guessed once.
func TestGuessesCountWhileNoHashCanBeComputed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"alice": quick, "bob": quick})
	p := w.build(&policyv1.BasicAuth{BruteForce: &policyv1.BruteForce{Failures: 3}})
	if status, _ := w.login(p, "alice", known); status != 200 {
		t.Fatalf("the right password: %d", status)
	}
	release := w.occupy()
	defer release()
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			if status, reason := w.login(p, "alice", fmt.Sprint("guess", i)); status != 503 {
				t.Errorf("guess %d: %d %s", i, status, reason)
			}
		})
	}
	all.Go(func() {
		for range 2 {
			if status, reason := w.login(p, "bob", known); status != 503 {
				t.Errorf("bob, whose password nobody can check: %d %s", status, reason)
			}
		}
	})
	all.Wait()
	if status, reason := w.login(p, "alice", known); status != 429 {
		t.Errorf("the right one after three guesses of which nothing was found out: %d %s", status, reason)
	}
	if status, reason := w.login(p, "bob", known); status != 503 {
		t.Errorf("bob, who has one password: %d %s", status, reason)
	}
}
