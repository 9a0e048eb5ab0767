package arch_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const modulePrefix = "keyward.dev/"

// pkg is what the rules need to know of a package.
type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string
	// TestImports and XTestImports are those of the package's own and external tests.
	TestImports, XTestImports []string
}

// path is the import path without the project's prefix: controlplane/internal/store.
func (p pkg) path() string { return strings.TrimPrefix(p.ImportPath, modulePrefix) }

// root is the repository's top folder: tests run in their package's.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var useLine = regexp.MustCompile(`(?m)^\t\./(\S+)$`)

// modules are those go.work names, which the Makefile reads too.
func modules(t *testing.T) []string {
	t.Helper()
	work, err := os.ReadFile(filepath.Join(root(t), "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range useLine.FindAllStringSubmatch(string(work), -1) {
		names = append(names, m[1])
	}
	if len(names) < 6 {
		t.Fatalf("go.work names %v, want at least six modules", names)
	}
	return names
}

var (
	loadOnce sync.Once
	loaded   []pkg
	errLoad  error
)

// packages returns all packages of all modules, loaded once.
func packages(t *testing.T) []pkg {
	t.Helper()
	dir, names := root(t), modules(t)
	loadOnce.Do(func() {
		for _, name := range names {
			ps, err := list(filepath.Join(dir, name), "./...")
			errLoad = errors.Join(errLoad, err)
			loaded = append(loaded, ps...)
		}
	})
	if errLoad != nil {
		t.Fatal(errLoad)
	}
	return loaded
}

// list asks the go command as the products are built: without the workspace.
func list(dir string, args ...string) ([]pkg, error) {
	const fields = "-json=ImportPath,Name,Doc,Dir,GoFiles,Imports,TestImports,XTestImports"
	cmd := exec.Command("go", append([]string{"list", fields}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %v in %s: %w: %s", args, dir, err, stderr.Bytes())
	}
	var ps []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return ps, nil
		} else if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
}

// matches says whether a path is named by a pattern: itself, or with "/..." it and all below.
func matches(pattern, path string) bool {
	if parent, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == parent || strings.HasPrefix(path, parent+"/")
	}
	return path == pattern
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

// mustExist fails for patterns that name nothing, so that a rule does not die silently when a package is renamed.
func mustExist(t *testing.T, patterns []string) {
	t.Helper()
	for _, pattern := range patterns {
		if !slices.ContainsFunc(packages(t), func(p pkg) bool { return matches(pattern, p.path()) }) {
			t.Errorf("the rule names %s, which does not exist (any more): change the rule with the package", pattern)
		}
	}
}

// generated and foreign files are as their makers wrote them.
var notOurs = []string{".git", "bin", "node_modules", "proto/gen", "proto/third_party", "dist"}

// files calls visit for every hand-written file with its slash-separated path.
func files(t *testing.T, visit func(path string, content []byte)) {
	t.Helper()
	dir := root(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		if d.IsDir() {
			if slices.Contains(notOurs, relative) || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		visit(relative, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lines calls visit for every line, counted from 1.
func lines(content []byte, visit func(number int, line string)) {
	s := bufio.NewScanner(bytes.NewReader(content))
	s.Buffer(nil, 16<<20)
	for n := 1; s.Scan(); n++ {
		visit(n, s.Text())
	}
}
