package kek_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/file"
)

func key(t *testing.T, n int) *file.Key {
	t.Helper()
	k, err := file.Parse([]byte(fmt.Sprintf("%032d", n)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysAreFoundByName(t *testing.T) {
	t.Parallel()
	a, b, c, d := key(t, 1), key(t, 2), key(t, 3), key(t, 4)
	keys := kek.Keys{Current: a, Retired: []kek.Wrapper{b}, Next: []kek.Wrapper{c}}
	if err := keys.Check(); err != nil {
		t.Fatal(err)
	}
	for want, k := range map[kek.Role]*file.Key{kek.RoleCurrent: a, kek.RoleRetired: b, kek.RoleNext: c} {
		if found, role := keys.Find(k.ID()); role != want || found != kek.Wrapper(k) {
			t.Errorf("%s: role %s", want, role)
		}
	}
	if found, role := keys.Find(d.ID()); role != kek.RoleMissing || found != nil {
		t.Errorf("another key: role %s", role)
	}
	if diff := cmp.Diff([]string{a.ID(), b.ID(), c.ID()}, keys.IDs()); diff != "" {
		t.Error(diff)
	}
	keys.Next = append(keys.Next, key(t, 1))
	if err := keys.Check(); err == nil || !strings.Contains(err.Error(), a.ID()) {
		t.Errorf("a key that is there twice: %v", err)
	}
}
