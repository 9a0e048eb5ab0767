package admission_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestDocuments applies documents with several faults to a group and compares the whole answer: every violation with
// its place, and nothing that only follows from another. The group is that of base; a file "doc-prune.yaml" is applied
// with prune. The answer to a good document is what it does.
func TestDocuments(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) < 10 {
		t.Errorf("only %d documents", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, rest, _ := bytes.Cut(raw, []byte(" --\n"))
			doc, want, ok := bytes.Cut(rest, []byte("-- want --\n"))
			if !ok {
				t.Fatal("no section want")
			}
			g := newGroup(t)
			g.must(base)
			a, vs := g.apply(string(doc), bytes.Contains(head, []byte("prune")))
			var got bytes.Buffer
			for _, v := range vs {
				fmt.Fprintln(&got, v)
			}
			if len(vs) == 0 {
				for _, line := range summary(a) {
					fmt.Fprintln(&got, line)
				}
			}
			if bytes.Equal(got.Bytes(), want) {
				return
			}
			if !*update {
				t.Fatalf("got\n%s\nwant\n%s", got.Bytes(), want)
			}
			out := fmt.Appendf(nil, "%s --\n%s-- want --\n%s", head, doc, got.Bytes())
			if err := os.WriteFile(file, out, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}
