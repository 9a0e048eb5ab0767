package arch_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryPolicyHasABudget holds that `make bench` says what each policy costs, and that CHECK=1 fails when one begins to
// allocate for callers it knows.
func TestEveryPolicyHasABudget(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root(t), ".tools", "bench", "budgets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var budgets []struct{ Name, Unit string }
	if err := json.Unmarshal(text, &budgets); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root(t), "docs", "policies", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no policies found: %v", err)
	}
	for _, page := range pages {
		typ := strings.TrimSuffix(filepath.Base(page), ".md")
		folder := strings.ReplaceAll(typ, "-", "")
		held := false
		for _, b := range budgets {
			for _, prefix := range []string{"policies.policy/" + typ + "/", "policies/" + folder + ".", "compile." + folder + "/"} {
				// A package that a policy is no folder of names its benchmarks after the policy: VaultAuth.
				held = held || b.Unit == "allocs/op" && strings.HasPrefix(strings.ToLower(b.Name), "dataplane/internal/"+prefix)
			}
		}
		if !held {
			t.Errorf("%s has no budget for what it allocates: a benchmark, and a line in .tools/bench/budgets.json", typ)
		}
	}
}
