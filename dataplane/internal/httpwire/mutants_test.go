package httpwire_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// equivalent are mutants that behave like the original, with the reason.
var equivalent = map[string]string{
	"chars.go: classes: '!' <= c becomes ('!'-1) <= c":                                          "a space ends the target before",
	"chars.go: trimOWS: len(b) > 0 becomes len(b) > (0+1)":                                      "what is one space is trimmed by the second loop",
	"chars.go: trimOWS: len(b) > 0 becomes len(b) > (0+1) (again)":                              "what is one space was trimmed by the first loop",
	"chars.go: valueEnd: i += bits.TrailingZeros64(controls) / 8 is left out":                   "slower: goes on byte by byte",
	"chars.go: valueEnd: len(b)-i >= 8 becomes false":                                           "slower: goes byte by byte",
	"chars.go: valueEnd: len(b)-i >= 8 becomes len(b)-i > 8":                                    "slower: goes byte by byte earlier",
	"chars.go: valueEnd: len(b)-i >= 8 becomes len(b)-i >= (8+1)":                               "slower: goes byte by byte earlier",
	"chunks.go: Reset: cap(c.lines) > maxTrailerKept becomes cap(c.lines) > (maxTrailerKept+1)": "memory only",
	"chunks.go: Reset: cap(c.lines) > maxTrailerKept becomes cap(c.lines) > (maxTrailerKept-1)": "memory only",
	"chunks.go: Reset: cap(c.lines) > maxTrailerKept becomes cap(c.lines) >= maxTrailerKept":    "memory only",
	"target.go: absoluteForm: end < 0 becomes end < (0+1)":                                      "an authority that is empty is refused as much as one with a slash",
	"target.go: absoluteForm: end < 0 becomes end <= 0":                                         "an authority that is empty is refused as much as one with a slash",
}

// TestMutants breaks every check of the package, one after the other, and demands that a test of the package fails: each
// part of a condition is taken as true and as false, comparisons are shifted by one, assignments and cases are left out.
// All mutants are compiled into one program, which is told by its environment which of them it is.
func TestMutants(t *testing.T) {
	if os.Getenv("KEYWARD_FULL") == "" {
		t.Skip("takes minutes; set KEYWARD_FULL=1")
	}
	dir := t.TempDir()
	m := mutator{overlay: map[string]string{}}
	for _, name := range sources(t) {
		m.file(t, name, dir)
	}
	m.add(t, filepath.Join(dir, "mutant.go"), "mutant.go", switchSource)
	program := m.build(t, dir)
	if out, err := run(t, program, -1); err != nil {
		t.Fatalf("without a mutant: %v\n%s", err, out)
	}
	survived := m.survivors(t, program)
	t.Logf("%d mutants, %d survived", len(m.names), len(survived))
	for _, name := range survived {
		if equivalent[name] == "" {
			t.Errorf("survived: %s", name)
		}
	}
	for name := range equivalent {
		if !slices.Contains(survived, name) {
			t.Errorf("is listed as equivalent, and did not survive or does not exist: %s", name)
		}
	}
}

// switchSource selects the mutant. A mutant may loop and append: time and memory are bounded.
const switchSource = `package httpwire

import (
	"os"
	"strconv"
	"syscall"
)

var mutant = chosen()

func chosen() int {
	_ = syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: 4 << 30, Max: 4 << 30})
	_ = syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: 3, Max: 4})
	n, err := strconv.Atoi(os.Getenv("MUTANT"))
	if err != nil {
		return -1
	}
	return n
}

func mutantCase[T ~int | ~uint8](n int, v T) T {
	if mutant == n {
		return 255
	}
	return v
}
`

func sources(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}

func run(t *testing.T, program string, mutant int) ([]byte, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, "-test.failfast", "-test.timeout=1m", "-test.parallel=1")
	c.Env = append(os.Environ(), "KEYWARD_FULL=", "GOMAXPROCS=1", "MUTANT="+strconv.Itoa(mutant))
	return c.CombinedOutput()
}

// mutator makes the mutants of the files it is given and numbers them.
type mutator struct {
	names   []string
	overlay map[string]string

	src      string // of the current file
	base     token.Pos
	name     string
	function string
	edits    []edit
}

// edit puts text around a node.
type edit struct {
	start, end    int
	before, after string
}

func (m *mutator) add(t *testing.T, path, name, src string) {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	m.overlay[filepath.Join(wd, name)] = path
}

func (m *mutator) build(t *testing.T, dir string) string {
	t.Helper()
	overlay, err := json.Marshal(map[string]any{"Replace": m.overlay})
	if err != nil {
		t.Fatal(err)
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutants")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", list, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

func (m *mutator) survivors(t *testing.T, program string) (names []string) {
	t.Helper()
	numbers := make(chan int)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for n := range numbers {
				_, err := run(t, program, n)
				if _, failed := errors.AsType[*exec.ExitError](err); failed {
					continue
				}
				mu.Lock()
				names = append(names, m.names[n])
				mu.Unlock()
			}
		})
	}
	for n := range m.names {
		numbers <- n
	}
	close(numbers)
	workers.Wait()
	slices.Sort(names)
	return names
}

func (m *mutator) file(t *testing.T, name, dir string) {
	t.Helper()
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	m.src, m.base, m.name, m.edits = string(src), f.FileStart, name, nil
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			m.function = fn.Name.Name
			ast.Inspect(fn.Body, m.statement)
		}
	}
	m.add(t, filepath.Join(dir, name), name, m.apply())
}

// apply makes all edits, inner ones within outer ones.
func (m *mutator) apply() string {
	var b strings.Builder
	for i := range len(m.src) + 1 {
		slices.SortStableFunc(m.edits, func(a, b edit) int { return cmp.Compare(b.start, a.start) })
		for _, e := range m.edits {
			if e.end == i {
				b.WriteString(e.after)
			}
		}
		slices.SortStableFunc(m.edits, func(a, b edit) int { return cmp.Compare(b.end, a.end) })
		for _, e := range m.edits {
			if e.start == i {
				b.WriteString(e.before)
			}
		}
		if i < len(m.src) {
			b.WriteByte(m.src[i])
		}
	}
	return b.String()
}

func (m *mutator) text(n ast.Node) string { return m.src[n.Pos()-m.base : n.End()-m.base] }

// number names a mutant of the node and returns its number.
func (m *mutator) number(n ast.Node, change string) int {
	name := fmt.Sprintf("%s: %s: %s %s", m.name, m.function, m.text(n), change)
	for slices.Contains(m.names, name) {
		name += " (again)"
	}
	m.names = append(m.names, name)
	return len(m.names) - 1
}

func (m *mutator) around(n ast.Node, before, after string) {
	m.edits = append(m.edits, edit{int(n.Pos() - m.base), int(n.End() - m.base), before, after})
}

func (m *mutator) statement(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IfStmt:
		m.initial(n.Init)
		m.condition(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			m.condition(n.Cond)
		}
	case *ast.SwitchStmt:
		m.cases(n)
	case *ast.ReturnStmt:
		for _, r := range n.Results {
			m.logical(r)
		}
	case *ast.AssignStmt:
		for _, r := range n.Rhs {
			m.logical(r)
		}
	case *ast.BlockStmt:
		m.block(n.List)
	case *ast.CaseClause:
		m.block(n.Body)
	}
	return true
}

// block leaves out assignments.
func (m *mutator) block(list []ast.Stmt) {
	for _, s := range list {
		if droppable(s) {
			m.around(s, fmt.Sprintf("if mutant != %d { ", m.number(s, "is left out")), " }")
		}
	}
}

func (m *mutator) initial(s ast.Stmt) {
	if s != nil && droppable(s) {
		m.around(s, fmt.Sprintf("func() { if mutant != %d { ", m.number(s, "is left out")), " } }()")
	}
}

func droppable(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.AssignStmt:
		return s.Tok != token.DEFINE
	case *ast.IncDecStmt:
		return true
	}
	return false
}

func (m *mutator) cases(s *ast.SwitchStmt) {
	for _, c := range s.Body.List {
		for _, e := range c.(*ast.CaseClause).List {
			if s.Tag == nil {
				m.condition(e)
			} else {
				m.around(e, fmt.Sprintf("mutantCase(%d, ", m.number(e, "is no case")), ")")
			}
		}
	}
}

// logical looks for conditions in an expression that may be none.
func (m *mutator) logical(e ast.Expr) {
	if b, ok := e.(*ast.BinaryExpr); ok && (b.Op == token.LAND || b.Op == token.LOR || comparison(b.Op)) {
		m.condition(e)
	}
}

func comparison(op token.Token) bool {
	return slices.Contains([]token.Token{token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ}, op)
}

// condition makes the mutants of each part of a condition.
func (m *mutator) condition(e ast.Expr) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		m.condition(e.X)
		return
	case *ast.UnaryExpr:
		m.condition(e.X)
		return
	case *ast.BinaryExpr:
		if e.Op == token.LAND || e.Op == token.LOR {
			m.condition(e.X)
			m.condition(e.Y)
			return
		}
		m.variants(e, append([]string{"true", "false"}, m.shifted(e)...))
		return
	}
	m.variants(e, []string{"true", "false"})
}

func (m *mutator) variants(e ast.Expr, variants []string) {
	first := len(m.names)
	var b strings.Builder
	for _, v := range variants {
		fmt.Fprintf(&b, "mutant == %d && (%s) || ", m.number(e, "becomes "+v), v)
	}
	m.around(e, fmt.Sprintf("(%s(mutant < %d || mutant >= %d) && (", b.String(), first, len(m.names)), "))")
}

// shifted are the comparisons that differ by one from e.
func (m *mutator) shifted(e *ast.BinaryExpr) (variants []string) {
	edges := map[token.Token]token.Token{token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR}
	if op, ok := edges[e.Op]; ok {
		variants = append(variants, m.text(e.X)+" "+op.String()+" "+m.text(e.Y))
	}
	ast.Inspect(e, func(n ast.Node) bool {
		if !constant(n) {
			return true
		}
		text := m.text(e)
		at := int(n.Pos() - e.Pos())
		for _, by := range []string{"+1", "-1"} {
			if literal := m.text(n); literal != "0" || by == "+1" {
				variants = append(variants, text[:at]+"("+literal+by+")"+text[at+len(literal):])
			}
		}
		return true
	})
	return variants
}

func constant(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BasicLit:
		return n.Kind == token.INT || n.Kind == token.CHAR
	case *ast.Ident:
		return strings.HasPrefix(n.Name, "max") && len(n.Name) > 3
	}
	return false
}
