package supervisor_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyward.dev/controlplane/cmd/keyward/internal/dev/supervisor"
)

// said collects what a supervisor reports.
type said struct {
	lines chan string
}

func (s *said) say(format string, args ...any) { s.lines <- fmt.Sprintf(format, args...) }

func newSupervisor(t *testing.T, logs io.Writer) (*supervisor.Supervisor, *said) {
	s := &said{lines: make(chan string, 16)}
	sup := supervisor.New(supervisor.Config{
		Logs:  func(string) io.Writer { return logs },
		Say:   s.say,
		Grace: 200 * time.Millisecond,
	})
	t.Cleanup(func() { sup.StopAll(context.WithoutCancel(t.Context())) })
	return sup, s
}

func shell(name, script string, ready func(context.Context) error) supervisor.Spec {
	return supervisor.Spec{Name: name, Path: "/bin/sh", Args: []string{"-c", script}, Env: os.Environ(), Ready: ready}
}

func await(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case l := <-lines:
		return l
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was reported")
		return ""
	}
}

func TestAProcessThatDiesIsReportedAndNotRestarted(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	sup, s := newSupervisor(t, w)
	sup.Add(shell("mortal", "echo $$; exec sleep 1000", nil))
	if err := sup.Start(t.Context(), "mortal"); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(bufio.NewReader(r), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if line := await(t, s.lines); !strings.Contains(line, "mortal") || !strings.Contains(line, "killed") {
		t.Errorf("reported %q, want who was killed", line)
	}
	if sup.Running("mortal") {
		t.Error("it runs again by itself")
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := sup.Start(t.Context(), "mortal"); err != nil || !sup.Running("mortal") {
		t.Errorf("Start() after its death = %v, running %v; want nil, true", err, sup.Running("mortal"))
	}
}

func TestStopOnPurposeIsNotReported(t *testing.T) {
	t.Parallel()
	sup, s := newSupervisor(t, io.Discard)
	sup.Add(shell("p", "exec sleep 1000", nil))
	for range 2 {
		if err := sup.Start(t.Context(), "p"); err != nil {
			t.Fatal(err)
		}
		if err := sup.Stop(t.Context(), "p"); err != nil {
			t.Fatal(err)
		}
		if sup.Running("p") {
			t.Fatal("it runs after Stop")
		}
	}
	sup.StopAll(t.Context())
	if err := sup.Start(t.Context(), "p"); err == nil {
		t.Error("Start() after StopAll() = nil, want a refusal")
	}
	select {
	case line := <-s.lines:
		t.Errorf("reported %q", line)
	default:
	}
}

func TestAProcessThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	sup, s := newSupervisor(t, w)
	sup.Add(shell("deaf", `trap "" TERM; echo up; while :; do sleep 0.01; done`, nil))
	if err := sup.Start(t.Context(), "deaf"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(r)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	if err := sup.Stop(t.Context(), "deaf"); err != nil {
		t.Fatal(err)
	}
	if line := await(t, s.lines); !strings.Contains(line, "was killed") {
		t.Errorf("reported %q, want that it was killed", line)
	}
}

func TestStartTellsWhyAProcessDidNotComeUp(t *testing.T) {
	t.Parallel()
	sup, _ := newSupervisor(t, io.Discard)
	sup.Add(shell("broken", "echo cannot read the key >&2; exit 3", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}))
	err := sup.Start(t.Context(), "broken")
	if err == nil || !strings.Contains(err.Error(), "cannot read the key") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Start() = %v, want its last words and exit status", err)
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	t.Parallel()
	sup, _ := newSupervisor(t, io.Discard)
	sup.Add(shell("known", "exit 0", nil))
	for name, do := range map[string]func(context.Context, string) error{"Start": sup.Start, "Stop": sup.Stop} {
		if err := do(t.Context(), "other"); !errors.Is(err, supervisor.ErrUnknown) || !strings.Contains(err.Error(), "known") {
			t.Errorf("%s(other) = %v, want ErrUnknown and the known names", name, err)
		}
	}
}

func TestPrefixerKeepsLinesWhole(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := supervisor.NewPrefixer(&b)
	one, two := p.Named("one"), p.Named("two")
	for _, write := range []struct {
		w    io.Writer
		text string
	}{{one, "a"}, {two, "x\ny"}, {one, "b\nc\n"}, {two, "z\n"}} {
		if _, err := io.WriteString(write.w, write.text); err != nil {
			t.Fatal(err)
		}
	}
	const want = "two           | x\none           | ab\none           | c\ntwo           | yz\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestOnceAnswersStdoutAndTheLastWordsOfAFailure(t *testing.T) {
	t.Parallel()
	out, err := supervisor.Once(t.Context(), shell("good", "echo data; echo talk >&2", nil), io.Discard)
	if err != nil || string(out) != "data\n" {
		t.Errorf("Once() = %q, %v; want data", out, err)
	}
	_, err = supervisor.Once(t.Context(), shell("bad", "echo why >&2; exit 1", nil), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("Once() = %v, want its last words", err)
	}
}
