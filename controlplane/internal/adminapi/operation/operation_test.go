package operation_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/catalog"

	"keyward.dev/controlplane/internal/adminapi/operation"
)

func TestEveryMethodHasAPath(t *testing.T) {
	t.Parallel()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operation.List(cat.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, op := range ops {
		if seen[op.ID] {
			t.Errorf("operation id %s is used twice", op.ID)
		}
		seen[op.ID] = true
	}
	for _, want := range []string{"getSettings", "putConsumerGroup", "listConsumerGroups", "patchCredential", "apply", "export", "createGroup"} {
		if !seen[want] {
			t.Errorf("no operation %s", want)
		}
	}
	if seen["deleteSettings"] || seen["listSettings"] {
		t.Error("settings can be deleted or listed")
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := operation.List(cat.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, want string
		fields     map[string]string
	}{
		{"/v1/groups/g/services/s", "getService", map[string]string{"group": "g", "name": "s"}},
		{"/v1/groups/g/consumers/c/credentials/k", "getCredential", map[string]string{"group": "g", "parent": "c", "name": "k"}},
		{"/v1/groups/g/routes/r:explain", "explainRoute", map[string]string{"group": "g", "route": "r"}},
		{"/v1/groups/g:export", "export", map[string]string{"group": "g"}},
		{"/v1/groups/g", "getGroup", map[string]string{"group": "g"}},
		{"/v1/groups/g/services/s:explain", "", nil},
		{"/v1/groups//services", "", nil},
		{"/v1/groups/g/services/", "", nil},
		{"/v1/groups/g:", "", nil},
		{"v1/groups", "", nil},
		{"", "", nil},
	} {
		var id string
		var fields map[string]string
		segments, verb, ok := operation.Split(tc.path)
		for _, op := range ops {
			if vars, _, match := op.Path.Match(segments, verb); ok && match && op.Method == "GET" {
				id, fields = op.ID, vars
			}
		}
		if id != tc.want || !cmp.Equal(fields, tc.fields) {
			t.Errorf("%s: %s %v, want %s %v", tc.path, id, fields, tc.want, tc.fields)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("/v1/groups/g:apply")
	f.Add("/v1/groups/a:b/c")
	f.Fuzz(func(t *testing.T, path string) {
		segments, verb, ok := operation.Split(path)
		if !ok {
			return
		}
		back := ""
		for _, s := range segments {
			if s == "" {
				t.Errorf("Split(%q) has an empty segment", path)
			}
			back += "/" + s
		}
		if verb != "" {
			back += ":" + verb
		}
		if back != path {
			t.Errorf("Split(%q) = %q", path, back)
		}
	})
}
