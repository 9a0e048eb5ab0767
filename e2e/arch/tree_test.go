package arch_test

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPackageNamesSaySomething(t *testing.T) {
	t.Parallel()
	empty := []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "types", "models", "model", "lib", "core"}
	for _, p := range packages(t) {
		if slices.Contains(empty, p.Name) || slices.Contains(empty, path.Base(p.ImportPath)) {
			t.Errorf("%s: the name %q says nothing about what is in it, and so anything will be", p.path(), p.Name)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 && !strings.HasPrefix(p.path(), "proto/gen/") {
			t.Errorf("%s has no package comment", p.path())
		}
	}
}

// topLevel is the whole of it, so that the first look at the repository stays a short one.
var topLevel = []string{
	"proto", "controlplane", "dataplane", "shared", "migrations", "charts", "e2e", "docs",
	"go.work", "go.work.sum", "Makefile", "README.md", "LICENSE", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
	"bin", // built, ignored by git
}

func TestTopLevelStaysShort(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

func TestFilesStayReadable(t *testing.T) {
	t.Parallel()
	const most = 600
	files(t, func(name string, content []byte) {
		if !slices.Contains([]string{".go", ".proto", ".sql"}, path.Ext(name)) {
			return
		}
		if n := bytes.Count(content, []byte("\n")); n > most {
			t.Errorf("%s has %d lines, more than %d: it does more than one thing", name, n, most)
		}
	})
}

// sourceRule forbids something in Go files.
type sourceRule struct {
	name   string
	test   bool // applies to tests; else to the rest
	find   *regexp.Regexp
	reason string
}

var sourceRules = []sourceRule{
	{
		name: "no sleeping in tests", test: true, find: regexp.MustCompile(`\btime\.Sleep\(`),
		reason: "it is too short on a busy machine and too long on any other: wait for the event, with a deadline",
	},
	{
		name: "no init functions", find: regexp.MustCompile(`^func init\(\)`),
		reason: "what happens at import cannot be seen, ordered or tested",
	},
	{
		name: "no printing past the logger", find: regexp.MustCompile(`\b(log\.(Print|Fatal|Panic)|fmt\.Print)`),
		reason: "stdout is data and stderr is the logger's; commands write to the writers they are given",
	},
}

func TestSourceRules(t *testing.T) {
	t.Parallel()
	for _, rule := range sourceRules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			files(t, func(name string, content []byte) {
				ours := path.Ext(name) == ".go" && !strings.HasPrefix(name, ".tools/") && strings.HasSuffix(name, "_test.go") == rule.test
				if !ours || strings.HasPrefix(name, "e2e/arch/") {
					return
				}
				lines(content, func(number int, line string) {
					code, _, _ := strings.Cut(line, "//")
					if rule.find.MatchString(code) {
						t.Errorf("%s:%d: %s: %s", name, number, strings.TrimSpace(line), rule.reason)
					}
				})
			})
		})
	}
}

// TestNoRegistryIsNamed keeps builds working behind mirrors: which registry serves a package is the machine's settings.
func TestNoRegistryIsNamed(t *testing.T) {
	t.Parallel()
	// Written with a gap, so that this file does not name them either.
	hosts := []string{
		"registry. npmjs", "npmjs. org", "registry. yarnpkg", "proxy. golang.org", "sum. golang.org",
		"deb. debian.org", "archive. ubuntu.com", "apt. postgresql.org", "docker. io", "ghcr. io", "quay. io", "gcr. io",
		"registry. k8s.io", "mcr. microsoft.com", "public. ecr.aws", "pypi. org", "artifacthub. io",
	}
	for i := range hosts {
		hosts[i] = strings.ReplaceAll(hosts[i], " ", "")
	}
	files(t, func(name string, content []byte) {
		if path.Base(name) == "go.sum" || path.Base(name) == "go.work.sum" || bytes.IndexByte(content, 0) >= 0 {
			return
		}
		for _, host := range hosts {
			if bytes.Contains(content, []byte(host)) {
				t.Errorf("%s names %s: leave the choice of registry to the machine", name, host)
			}
		}
		if path.Base(name) == "package-lock.json" && bytes.Contains(content, []byte(`"resolved"`)) {
			t.Errorf("%s holds addresses: set omit-lockfile-registry-resolved=true in .npmrc", name)
		}
	})
}

var requirement = regexp.MustCompile(`(?m)^(?:require )?\t?(\S+) (v\S+)`)

// TestModulesAgreeOnVersions compares what the modules ask for themselves, whether directly or not.
func TestModulesAgreeOnVersions(t *testing.T) {
	t.Parallel()
	type choice struct{ module, version string }
	chosen := map[string]choice{}
	for _, module := range modules(t) {
		content, err := os.ReadFile(filepath.Join(root(t), module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		lines(content, func(_ int, line string) {
			m := requirement.FindStringSubmatch(line)
			if m == nil || strings.HasSuffix(line, "// indirect") || strings.HasPrefix(m[1], modulePrefix) {
				return
			}
			first, seen := chosen[m[1]]
			if seen && first.version != m[2] {
				t.Errorf("%s asks for %s %s, %s for %s: both planes are to be tested with one version", module, m[1], m[2], first.module, first.version)
			}
			if !seen {
				chosen[m[1]] = choice{module, m[2]}
			}
		})
	}
	if len(chosen) == 0 {
		t.Error("no requirements found")
	}
}

// TestModulesAreReplaced makes sure that every module builds from this tree alone, without the workspace.
func TestModulesAreReplaced(t *testing.T) {
	t.Parallel()
	for _, module := range modules(t) {
		content, err := os.ReadFile(filepath.Join(root(t), module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		lines(content, func(_ int, line string) {
			name, version, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "require ")), " ")
			if !ok || !strings.HasPrefix(name, modulePrefix) || !strings.HasPrefix(version, "v") {
				return
			}
			want := "replace " + name + " => ../" + strings.TrimPrefix(name, modulePrefix)
			if !strings.Contains(string(content), want+"\n") {
				t.Errorf("%s/go.mod requires %s without %q", module, name, want)
			}
		})
	}
}
