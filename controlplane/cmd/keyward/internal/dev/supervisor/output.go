package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"keyward.dev/shared/run/child"
)

// tailLines is how much of a dead process's output is shown.
const tailLines = 15

// tail keeps the last lines of what a process wrote.
type tail struct {
	mu    sync.Mutex
	lines []string
	rest  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest = append(t.rest, p...)
	for {
		line, rest, found := bytes.Cut(t.rest, []byte("\n"))
		if !found {
			break
		}
		t.lines = append(t.lines, string(line))
		t.rest = rest
	}
	if extra := len(t.lines) - tailLines; extra > 0 {
		t.lines = append([]string(nil), t.lines[extra:]...)
	}
	return len(p), nil
}

// String answers the last lines, indented.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if len(t.rest) > 0 {
		lines = append(slices.Clip(lines), string(t.rest))
	}
	if len(lines) == 0 {
		return "  (it wrote nothing)"
	}
	return "  " + strings.Join(lines, "\n  ")
}

// Prefixer puts a name before each line; several may share one writer.
type Prefixer struct {
	mu *sync.Mutex
	w  io.Writer
}

// NewPrefixer shares w among named writers, whole lines at a time.
func NewPrefixer(w io.Writer) *Prefixer {
	return &Prefixer{mu: new(sync.Mutex), w: w}
}

// Named answers a writer whose lines are marked with name.
func (p *Prefixer) Named(name string) io.Writer {
	return &named{Prefixer: p, prefix: fmt.Appendf(nil, "%-14s| ", name)}
}

type named struct {
	*Prefixer
	prefix []byte
	rest   []byte // written by one process's copier at a time
}

func (n *named) Write(p []byte) (int, error) {
	n.rest = append(n.rest, p...)
	end := bytes.LastIndexByte(n.rest, '\n')
	if end < 0 {
		return len(p), nil
	}
	var out []byte
	for line := range bytes.Lines(n.rest[:end+1]) {
		out = append(append(out, n.prefix...), line...)
	}
	n.rest = append(n.rest[:0], n.rest[end+1:]...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Once runs a program to its end, tied to this process like the others, and answers what it wrote on stdout.
func Once(ctx context.Context, spec Spec, logs io.Writer) ([]byte, error) {
	var out bytes.Buffer
	last := &tail{}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = spec.Env
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(last, logs)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
		_ = c.Signal(syscall.SIGKILL)
		<-c.Done()
		return nil, context.Cause(ctx)
	}
	if c.Err() != nil {
		return nil, fmt.Errorf("%s: %w:\n%s", spec.Name, c.Err(), last)
	}
	return out.Bytes(), nil
}
