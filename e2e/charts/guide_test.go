package charts_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var setting = regexp.MustCompile(`--set(?:-file)? '?([A-Za-z.]+)(\[\d\])?(\.\w+)?=`)

// TestInstallGuideNamesValuesThatExist checks every --set of the guide against the schema of one of the charts.
func TestInstallGuideNamesValuesThatExist(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, chart := range charts() {
		s := readSchema(t, chart)
		s.paths("", s, known)
	}
	found := setting.FindAllStringSubmatch(string(guide), -1)
	if len(found) < 5 {
		t.Fatalf("found %d settings in the guide; has its form changed?", len(found))
	}
	for _, f := range found {
		if !known[f[1]] {
			t.Errorf("%s: no chart has a value %s", strings.TrimSpace(f[0]), f[1])
		}
	}
}
