package cli_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"keyward.dev/controlplane/cmd/keyward/internal/cli"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/client"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// update rewrites what the cases expect.
var update = flag.Bool("update", false, "rewrite stdout, stderr, exit and requests of the cases")

// TestCommands runs the command line of each case against a control plane that answers what the case says.
//
//	args       one argument a line
//	stdin      what is on stdin
//	tty        that a person sits before it, who can be asked
//	clock      by how much the clock moves each time somebody looks at it
//	answer M   what the method M answers: a message as JSON, or "error CODE MESSAGE" and violations; several in order
//	request M  what it was asked, as JSON
//	stdout, stderr, exit
//
// Any other section is a file; $DIR in the arguments is where they are.
func TestCommands(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runCase(t, path)
		})
	}
}

func runCase(t *testing.T, path string) {
	a := readArchive(t, path)
	dir := t.TempDir()
	server := newFake(t)
	var args []string
	var stdin string
	tty := false
	clock := time.Duration(0)
	for _, s := range a.sections {
		kind, method, _ := strings.Cut(s.name, " ")
		switch kind {
		case "args":
			args = strings.Split(strings.TrimSpace(strings.ReplaceAll(s.body, "$DIR", dir)), "\n")
		case "stdin":
			stdin = s.body
		case "tty":
			tty = true
		case "clock":
			clock, _ = time.ParseDuration(strings.TrimSpace(s.body))
		case "answer":
			server.answer(t, method, s.body)
		case "stdout", "stderr", "exit", "request":
		default:
			writeFile(t, filepath.Join(dir, s.name), s.body)
		}
	}
	io, out, errs := terminal.Buffers(stdin)
	io.InTTY = tty
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	f := &factory.Factory{
		IO:     io,
		Getenv: func(name string) string { return map[string]string{"KEYWARD_ADDR": "https://fake:7443"}[name] },
		Now:    func() time.Time { now = now.Add(clock); return now },
		Dial:   func(client.Target) (*grpc.ClientConn, error) { return server.dial() },
	}
	code := cli.Main(t.Context(), f, args)
	hide := func(s string) string { return strings.ReplaceAll(s, dir, "$DIR") }
	got := map[string]string{"stdout": hide(out.String()), "stderr": hide(errs.String()), "exit": strconv.Itoa(code) + "\n"}
	for method, reqs := range server.asked() {
		got["request "+method] = reqs
	}
	if *update {
		a.write(t, path, got)
		return
	}
	want := map[string]string{}
	for _, s := range a.sections {
		if kind, _, _ := strings.Cut(s.name, " "); kind == "stdout" || kind == "stderr" || kind == "exit" || kind == "request" {
			want[s.name] = s.body
		}
	}
	for name, text := range got {
		if text == "" {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keyward %s (-want +got):\n%s", strings.Join(args, " "), diff)
	}
}

// TestHelp keeps every command's help readable: a short text, and examples that begin like a command line.
func TestHelp(t *testing.T) {
	t.Parallel()
	io, _, _ := terminal.Buffers("")
	root := cli.Root(&factory.Factory{IO: io, Getenv: func(string) string { return "" }})
	commands := root.Commands()
	for i := 0; i < len(commands); i++ {
		c := commands[i]
		commands = append(commands, c.Commands()...)
		if c.Short == "" && !c.Hidden {
			t.Errorf("%s has no short help", c.CommandPath())
		}
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len(line) > 130 {
				t.Errorf("%s: line of help with %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
	}
}

// archive is a text file of named sections: "-- name --" lines and what follows each.
type archive struct {
	comment  string
	sections []section
}

type section struct{ name, body string }

func readArchive(t *testing.T, path string) archive {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var a archive
	for line := range strings.Lines(string(data)) {
		name, ok := strings.CutPrefix(line, "-- ")
		if name, end := strings.CutSuffix(strings.TrimSpace(name), " --"); ok && end {
			a.sections = append(a.sections, section{name: name})
			continue
		}
		if len(a.sections) == 0 {
			a.comment += line
			continue
		}
		a.sections[len(a.sections)-1].body += line
	}
	return a
}

// write replaces what the case expects and keeps the rest.
func (a archive) write(t *testing.T, path string, got map[string]string) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(a.comment)
	for _, s := range a.sections {
		if kind, _, _ := strings.Cut(s.name, " "); kind == "stdout" || kind == "stderr" || kind == "exit" || kind == "request" {
			continue
		}
		fmt.Fprintf(&b, "-- %s --\n%s", s.name, s.body)
	}
	for _, name := range expectations(got) {
		if got[name] != "" {
			fmt.Fprintf(&b, "-- %s --\n%s", name, got[name])
		}
	}
	writeFile(t, path, b.String())
}

func expectations(got map[string]string) []string {
	var requests []string
	for name := range got {
		if strings.HasPrefix(name, "request ") {
			requests = append(requests, name)
		}
	}
	slices.Sort(requests)
	return append(requests, "stdout", "stderr", "exit")
}

func writeFile(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

// compact takes the random blanks out of protojson.
func compact(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}
