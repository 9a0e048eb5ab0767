package document_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"keyward.dev/controlplane/cmd/keyward/internal/document"
)

func TestContentTypes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, want := range map[string]string{"a.yaml": "application/yaml", "a.JSON": "application/json", "a": "application/yaml"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		doc, err := document.Read(path, nil)
		if err != nil || doc.ContentType != want || string(doc.Body) != "{}" {
			t.Errorf("Read(%s) = %v, %v; want %s", name, doc, err, want)
		}
	}
	for in, want := range map[string]string{"{}": "application/json", " \n{\"a\":1}": "application/json", "a: {}": "application/yaml", "": "application/yaml"} {
		doc, err := document.Read("-", strings.NewReader(in))
		if err != nil || doc.ContentType != want {
			t.Errorf("Read(-) of %q = %v, %v; want %s", in, doc, err, want)
		}
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"group: a\nservices: []": "a", `{"group": "b"}`: "b", "services: []": "", "group: [x]": "", "\t{": "", "": "", "- x": "",
	} {
		if got := (document.Document{Body: []byte(body)}).Group(); got != want {
			t.Errorf("Group() of %q = %q, want %q", body, got, want)
		}
	}
}

// FuzzDirectory: putting files together never fails silently: it is an error, or every list of the parts is in the whole.
func FuzzDirectory(f *testing.F) {
	f.Add("services: [{name: a}]", "services: [{name: b}]")
	f.Add("group: x", "group: x\nroutes: []")
	f.Add("- 1", "a: &x [1]\nb: *x")
	f.Add("a: 1\na: 2", "---\n---\n")
	f.Fuzz(func(t *testing.T, one, two string) {
		dir := t.TempDir()
		for name, body := range map[string]string{"1.yaml": one, "2.yml": two, "note.txt": "no document"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		doc, err := document.Read(dir, nil)
		if err != nil {
			return
		}
		var whole yaml.Node // whether keys inside are given twice is for the control plane to say
		if err := yaml.Unmarshal(doc.Body, &whole); err != nil {
			t.Fatalf("%q and %q give what cannot be read: %v\n%s", one, two, err, doc.Body)
		}
	})
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"10.yaml": "group: g\nservices: [{name: a}]\n", "20.yml": "group: g\nservices: [{name: b}]\n---\nroutes: [{name: r}]\n", "30.json": `{"settings": {"require_https": false}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := document.Read(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := yaml.Unmarshal(doc.Body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"group":    "g",
		"services": []any{map[string]any{"name": "a"}, map[string]any{"name": "b"}},
		"routes":   []any{map[string]any{"name": "r"}},
		"settings": map[string]any{"require_https": false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("whole (-want +got):\n%s", diff)
	}
}
