package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Release is a set of programs of one version. The zero value is what make build made of this tree.
type Release struct{ dir string }

// BuiltIn is a release that is built in a directory.
func BuiltIn(dir string) Release { return Release{dir: dir} }

func (r Release) program(t testing.TB, name string) string {
	t.Helper()
	if r.dir == "" {
		return Bin(t, name)
	}
	return filepath.Join(r.dir, name)
}

// NoPrevious is the variable that leaves out the tests that need the programs of another commit.
const NoPrevious = "KEYWARD_NO_PREVIOUS"

// Released builds the programs of a commit, once, into bin/releases. Those named in without are policies, by their
// package, that the gateway is built without, as if it were older than they are. A clone that does not have the commit
// skips the test; with KEYWARD_FULL it fails: to leave it out unasked would be to promise what nobody looked at.
func Released(t testing.TB, commit string, without ...string) Release {
	t.Helper()
	root := tree(t)
	dir := filepath.Join(root, "bin", "releases", strings.Join(append([]string{commit}, without...), "-without-"))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	defer lock(t, filepath.Join(filepath.Dir(dir), ".lock"))()
	if exists(dir) {
		return Release{dir}
	}
	built, err := os.MkdirTemp(filepath.Dir(dir), ".building-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(built) })
	if err := os.Chmod(built, 0o755); err != nil { // programs are also run as other users
		t.Fatal(err)
	}
	source := checkout(t, root, commit)
	for _, policy := range without {
		forgo(t, source, policy)
	}
	buildRelease(t, source, built, commit)
	if err := os.Rename(built, dir); err != nil {
		t.Fatal(err)
	}
	return Release{dir}
}

// lock waits until nobody else builds: tests that want the same programs would each compile all of them.
func lock(t testing.TB, path string) (unlock func()) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

// ReleasedFile is a file of the tree at a commit.
func ReleasedFile(t testing.TB, commit, path string) []byte {
	t.Helper()
	return git(t, tree(t), commit, "show", commit+":"+path)
}

// tree is the folder of this tree. It skips the test if no other commit is to be looked at.
func tree(t testing.TB) string {
	t.Helper()
	if os.Getenv(NoPrevious) != "" {
		t.Skip(NoPrevious + " is set")
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func git(t testing.TB, root, commit string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", root}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return out
	}
	text := fmt.Sprintf("the tests of version skew need commit %s, which git does not give: %v: %s\n"+
		"If the clone is shallow, run git fetch --unshallow.", commit, err, bytes.TrimSpace(stderr.Bytes()))
	if !Full() {
		t.Skip(text)
	}
	t.Fatal(text + " Or set " + NoPrevious + "=1 to leave these tests out.")
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkout writes the tree of a commit into a folder of the test's own.
func checkout(t testing.TB, root, commit string) string {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	git(t, root, commit, "archive", "-o", archive, commit)
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", source).CombinedOutput(); err != nil {
		t.Fatalf("unpack commit %s: %v: %s", commit, err, out)
	}
	return source
}

// forgo takes a policy out of the gateway's registry.
func forgo(t testing.TB, source, policy string) {
	t.Helper()
	path := filepath.Join(source, "dataplane", "internal", "policies", "registry.go")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	lines := strings.Split(string(b), "\n")
	for _, line := range lines {
		if !strings.HasSuffix(line, "/"+policy+`"`) && !strings.Contains(line, "("+policy+".Build)") {
			kept = append(kept, line)
		}
	}
	if len(lines)-len(kept) != 2 {
		t.Fatalf("policy %s is not in %s as expected", policy, path)
	}
	if err := os.WriteFile(path, []byte(strings.Join(kept, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func buildRelease(t testing.TB, source, into, commit string) {
	t.Helper()
	version := fmt.Sprintf("-X keyward.dev/shared/telemetry.version=%.7s", commit)
	for _, m := range []struct {
		module   string
		commands []string
	}{
		{"controlplane", []string{"./cmd/keyward", "./cmd/keyward-controlplane"}},
		{"dataplane", []string{"./cmd/keyward-dataplane"}},
	} {
		args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", version, "-o", into + "/"}, m.commands...)
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = filepath.Join(source, m.module), append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s of commit %s: %v\n%s", m.module, commit, err, out)
		}
	}
}
