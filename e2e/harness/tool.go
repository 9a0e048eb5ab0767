package harness

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Tool returns the path of one of the repository's tools. Those that take long to build are built in the full run only:
// elsewhere a test that needs one that is not there is skipped.
func Tool(t testing.TB, name string) string {
	t.Helper()
	script, err := filepath.Abs(filepath.Join("..", "..", ".tools", "tool"))
	if err != nil {
		t.Fatal(err)
	}
	if !Full() && exec.Command(script, "--have", name).Run() != nil {
		t.Skipf("NOT RUN: %s is not built; make setup FULL=1 builds it", name)
	}
	out, err := exec.Command(script, name).Output()
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}
