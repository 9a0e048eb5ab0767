//go:build !race

// Under the race detector a hash takes so long that there is no time for as many as this needs.

package basicauth_test

import (
	"fmt"
	"testing"

	"keyward.dev/dataplane/internal/policy/policytest"
)

// Hashes of the password, by argon2id with the least memory that is accepted, and by PBKDF2 with twice the iterations of quick.
const (
	argon  = "$argon2id$v=19$m=4096,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	slower = "$pbkdf2-sha256$i=20000$AAECAwQFBgcICQoLDA0ODw$X+DILeVuX9mNHCAvEDeDlaquCYUTD7rdkkZXdsCyl/Q"
)

// guessesAt measures wrong passwords for users who exist, all of them in turn, and for others.
func guessesAt(t *testing.T, n int, users map[string]string, known, other func(i int) string) error {
	t.Helper()
	w := newWorld(t, users)
	p := w.build(unprotected())
	guess := func(user func(int) string) func(int) {
		return func(i int) {
			if status, reason := w.login(p, user(i), "wrong"); status != 401 {
				t.Errorf("%s: %d %s", user(i), status, reason)
			}
		}
	}
	return policytest.TellApart(policytest.Times(n, guess(known), guess(other)))
}

// TestNoTimeTellsWhoExists asks whether wrong passwords take as long for users who do not exist as for those who do, whatever
// their hashes are: none is of the sort that the control plane makes, so that a fixed decoy would show.
func TestNoTimeTellsWhoExists(t *testing.T) {
	const users = 24
	user := func(i int) string { return fmt.Sprint("user", i%users) }
	nobody := func(i int) string { return fmt.Sprint("nobody", i) } // never the same
	for _, tt := range []struct {
		name   string
		n      int
		hashes []string
	}{
		{"PBKDF2", 120, []string{quick}},
		{"argon2id", 80, []string{argon}},
		{"bcrypt", 48, []string{cheap}},
		{"several sorts", 96, []string{quick, argon, slower, cheap}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hashes := map[string]string{}
			for i := range users {
				hashes[user(i)] = tt.hashes[i%len(tt.hashes)]
			}
			if err := guessesAt(t, tt.n, hashes, user, nobody); err != nil {
				t.Errorf("users and nobody are told apart: %v", err)
			}
		})
	}
}

// TestTimesWouldTell: of users whose hashes take a different time it can be told, so that the test above can fail.
func TestTimesWouldTell(t *testing.T) {
	hashes := map[string]string{"quick": quick, "slow": slower}
	for range 3 { // what else the machine does may hide it now and then
		if guessesAt(t, 60, hashes, func(int) string { return "quick" }, func(int) string { return "slow" }) != nil {
			return
		}
	}
	t.Error("hashes of 10,000 and of 20,000 iterations are not told apart")
}
