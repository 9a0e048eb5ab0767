package admission_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"keyward.dev/shared/testkit/certtest"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(group: .*?)```")

// TestPolicyPagesAreAdmitted applies what the pages about policies show.
func TestPolicyPagesAreAdmitted(t *testing.T) {
	t.Parallel()
	key := certtest.SelfSigned(t, "signing")
	signing := certificate("signing", "current", key.PEM()+key.KeyPEM(t)) // which pages tell to add first
	pages, _ := filepath.Glob("../../../docs/policies/*.md")
	if len(pages) == 0 {
		t.Error("no pages")
	}
	for _, page := range append(pages, "../../../docs/callers.md", "../../../docs/migrating.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks := yamlBlock.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no example", page)
		}
		for _, b := range blocks {
			g := newGroup(t)
			g.must(signing)
			if _, vs := g.apply(string(b[1]), false); len(vs) > 0 {
				t.Errorf("%s: %v", page, vs)
				continue
			}
			g.must(string(b[1]))
			g.compiles(t)
		}
	}
}
