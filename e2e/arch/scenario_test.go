package arch_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryTypeIsInAScenario holds that each policy and each type of credentials is used with real processes, and so with the
// FIPS module, too, when `make fips` runs the scenarios with nothing else allowed.
func TestEveryTypeIsInAScenario(t *testing.T) {
	t.Parallel()
	missing := map[string]bool{}
	for _, glob := range []string{filepath.Join("docs", "policies", "*.md"), filepath.Join("proto", "keyward", "credential", "v1", "*_*.proto")} {
		found, err := filepath.Glob(filepath.Join(root(t), glob))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: nothing found: %v", glob, err)
		}
		for _, path := range found {
			name, _, _ := strings.Cut(filepath.Base(path), ".")
			missing[strings.ReplaceAll(name, "_", "-")] = true
		}
	}
	var scenarios strings.Builder
	pages := map[string][]byte{}
	files(t, func(name string, content []byte) {
		switch {
		case strings.HasPrefix(name, "e2e/scenario/"):
			scenarios.Write(content)
		case strings.HasPrefix(name, "docs/policies/"):
			pages[strings.TrimSuffix(filepath.Base(name), ".md")] = content
		}
	})
	for name, page := range pages { // scenarios apply what pages show
		if text := scenarios.String(); strings.Contains(text, `(t, "`+name+`"`) || strings.Contains(text, `(t, "`+name+`.md"`) {
			scenarios.Write(page)
		}
	}
	for typ := range missing {
		if strings.Contains(scenarios.String(), "type: "+typ) {
			delete(missing, typ)
		}
	}
	for typ := range missing {
		t.Errorf("%s is in no scenario", typ)
	}
}
