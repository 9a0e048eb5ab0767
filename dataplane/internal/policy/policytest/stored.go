package policytest

import (
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/shared/check/tokenpair"
)

// stored enters what a case says of credential stores.
func (w *world) stored(t testing.TB, data []byte) {
	t.Helper()
	edit, known := w.directory.Edit(), map[string]bool{}
	for line := range strings.Lines(string(w.fill(t, data))) {
		word := strings.Fields(line)
		switch {
		case len(word) == 2 && word[0] == "store":
			known[word[1]] = true
		case len(word) >= 5 && word[0] == "pair":
			c := directory.Credential{
				UID: uid(tokenpair.KindEntry, word[3]), Name: word[1] + ".1", Type: tokenpair.Type, Consumer: word[2], Term: w.term.Number(),
				Hash: w.term.Hash(tokenpair.Append(nil, word[1], []byte(word[3]), []byte(word[4]))),
			}
			if len(word) > 5 {
				d, err := time.ParseDuration(strings.TrimPrefix(word[5], "expires="))
				if err != nil {
					t.Fatalf("stored: %q: %v", line, err)
				}
				c.Expires = Epoch().Add(d)
			}
			edit.PutCredential(c)
		default:
			t.Fatalf("stored: %q is neither a store nor a pair", line)
		}
	}
	edit.SetStores(known)
	w.directory = edit.Directory()
}
