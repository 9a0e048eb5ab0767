// Package supervisor starts and stops the processes of `keyward dev`. It restarts nothing by itself: a process that dies
// is reported, and started again only when somebody asks. No process outlives the one that started it.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"keyward.dev/shared/run/child"
)

// Spec is how one process is started, every time in the same way.
type Spec struct {
	// Name tells it apart: "controlplane", "gateway-1".
	Name string
	Path string
	Args []string
	// Env is the whole environment.
	Env []string
	// Ready answers nil once the process does its work; nil: at once.
	Ready func(ctx context.Context) error
}

// ErrUnknown is for a name that no process has.
var ErrUnknown = errors.New("no such process")

// Supervisor owns the processes. Its methods may be called from any goroutine.
type Supervisor struct {
	// Logs answers where the output of a process goes.
	logs func(name string) io.Writer
	// Say reports a process's end.
	say func(format string, args ...any)
	// Grace is how long a process has between SIGTERM and SIGKILL.
	grace time.Duration

	watchers sync.WaitGroup

	mu     sync.Mutex // guards what follows
	specs  []*process
	closed bool
}

// process is guarded by the supervisor's mu.
type process struct {
	spec Spec
	// now is the life it has, or had last.
	now *life
}

// life is one run of a process, from start to end; guarded by the supervisor's mu.
type life struct {
	child *child.Child
	tail  *tail
	// wanted is set while it is up and nobody has asked it to stop: its end is news then. Before, Start reports it.
	wanted bool
	// stopping is set by Stop.
	stopping bool
	// waiting are those who wait for it to be ready.
	waiting []context.CancelCauseFunc
}

// Config of a Supervisor.
type Config struct {
	Logs  func(name string) io.Writer
	Say   func(format string, args ...any)
	Grace time.Duration
}

// New makes a supervisor without processes.
func New(c Config) *Supervisor {
	return &Supervisor{logs: c.Logs, say: c.Say, grace: c.Grace}
}

// Add makes a process known without starting it.
func (s *Supervisor) Add(spec Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.specs = append(s.specs, &process{spec: spec})
}

// Start starts a process that does not run and waits until it is ready. One that runs is only waited for.
func (s *Supervisor) Start(ctx context.Context, name string) error {
	spec, l, err := s.launch(name)
	if err != nil {
		return err
	}
	if err := s.awaitReady(ctx, spec, l); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

// awaitReady returns when the process is ready or has ended.
func (s *Supervisor) awaitReady(ctx context.Context, spec Spec, l *life) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	if !l.running() { // nobody would wake us
		s.mu.Unlock()
		return l.ended()
	}
	l.waiting = append(l.waiting, cancel)
	s.mu.Unlock()
	if spec.Ready != nil {
		if err := spec.Ready(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.running() {
		return l.ended()
	}
	l.wanted = !l.stopping
	return nil
}

func (s *Supervisor) launch(name string) (Spec, *life, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(name)
	switch {
	case p == nil:
		return Spec{}, nil, fmt.Errorf("%q: %w (there are %v)", name, ErrUnknown, s.names())
	case s.closed:
		return Spec{}, nil, errors.New("keyward dev is stopping")
	case p.now.running():
		return p.spec, p.now, nil
	}
	l := &life{tail: &tail{}}
	out := io.MultiWriter(l.tail, s.logs(name))
	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	cmd.Env = p.spec.Env
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: Ctrl-C in the terminal is for us, and we end the processes in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Something that inherited the output must not keep a dead process from being noticed.
	cmd.WaitDelay = time.Second
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return Spec{}, nil, err
	}
	l.child, p.now = c, l
	s.watchers.Go(func() { s.watch(name, l) })
	return p.spec, l, nil
}

// watch tells those who wait for the process, or reports its end if nobody has asked for it.
func (s *Supervisor) watch(name string, l *life) {
	<-l.child.Done()
	s.mu.Lock()
	wanted, waiting := l.wanted, l.waiting
	s.mu.Unlock()
	for _, cancel := range waiting { // of those who have stopped waiting it does nothing
		cancel(l.ended())
	}
	if wanted {
		s.say("%s (pid %d) ended by itself: %s. It is not restarted; keyward dev start %s does that.",
			name, l.child.PID(), ending(l.child.Err()), name)
	}
}

// Stop ends a process: SIGTERM, then SIGKILL when the grace is over or ctx ends. One that does not run is no error.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	s.mu.Lock()
	p := s.find(name)
	if p == nil {
		defer s.mu.Unlock()
		return fmt.Errorf("%q: %w (there are %v)", name, ErrUnknown, s.names())
	}
	l := p.now
	running := l.running()
	if running {
		l.wanted, l.stopping = false, true
	}
	s.mu.Unlock()
	if !running {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.grace)
	defer cancel()
	if err := l.child.Stop(ctx, syscall.SIGTERM); err != nil {
		s.say("%v", err)
	}
	return nil
}

// StopAll ends every process at once, waits for them, and lets none start any more.
func (s *Supervisor) StopAll(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	var wait sync.WaitGroup
	for _, name := range s.Names() {
		wait.Go(func() { _ = s.Stop(ctx, name) })
	}
	wait.Wait()
	s.watchers.Wait()
}

// Names lists the processes in the order they were added.
func (s *Supervisor) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names()
}

// Running says whether a process runs.
func (s *Supervisor) Running(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(name)
	return p != nil && p.now.running()
}

func (s *Supervisor) names() []string {
	names := make([]string, 0, len(s.specs))
	for _, p := range s.specs {
		names = append(names, p.spec.Name)
	}
	return names
}

func (s *Supervisor) find(name string) *process {
	for _, p := range s.specs {
		if p.spec.Name == name {
			return p
		}
	}
	return nil
}

// running is false of a life that has not begun (nil) or has ended.
func (l *life) running() bool {
	if l == nil {
		return false
	}
	select {
	case <-l.child.Done():
		return false
	default:
		return true
	}
}

// ended says how a life ended, with the last words. Only after its end.
func (l *life) ended() error {
	return fmt.Errorf("it ended before it was ready (%s):\n%s", ending(l.child.Err()), l.tail)
}

func ending(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
