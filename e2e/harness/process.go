package harness

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyward.dev/shared/run/child"
	"keyward.dev/shared/testkit"
)

// Process is a real process of the product or a peer. Its output is kept and shown when the test fails.
type Process struct {
	t     testing.TB
	name  string
	path  string
	args  []string
	env   []string
	out   *output
	child *child.Child
	// sockets are handed over to it, by name.
	sockets []*os.File
}

// output gathers what a process writes, through a file so that the process never waits for a reader.
type output struct {
	mu   sync.Mutex
	file *os.File
}

// Bin returns the path of a product binary: in $KEYWARD_BIN, else in the tree's bin folder.
func Bin(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("KEYWARD_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not built: run make build (%v)", name, err)
	}
	return path
}

// NewProcess describes a process; Start starts it.
func NewProcess(t testing.TB, name, path string, env []string, args ...string) *Process {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, name: name, path: path, args: args, env: env, out: &output{file: file}}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, tail(p.Output(), 6000))
		}
		file.Close()
	})
	return p
}

// Start starts the process; starting it again after it ended is a restart with the same arguments.
func (p *Process) Start() {
	p.t.Helper()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(environment(), p.env...)
	cmd.Stdout, cmd.Stderr = p.out.file, p.out.file
	cmd.ExtraFiles = p.sockets
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		p.t.Fatal(err)
	}
	p.child = c
}

// environment is what every process of ours gets. With $KEYWARD_FIPS it may use nothing but what FIPS 140-3 approves.
func environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	if os.Getenv("KEYWARD_FIPS") != "" {
		env = append(env, "GODEBUG=fips140=only")
	}
	return env
}

// HandOver gives the process, when it is started, a socket by a name, as a service manager that holds it would do
// (sd_listen_fds(3)).
func (p *Process) HandOver(socket *os.File, name string) {
	p.sockets = append(p.sockets, socket)
	p.env = append(p.env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)
	// The variable for whom they are has to say the id of the process, which a shell knows that becomes it.
	p.path, p.args = "/bin/sh", append([]string{"-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@"`, p.path}, p.args...)
}

// PID is the process id.
func (p *Process) PID() int { return p.child.PID() }

// Running says whether the process lives.
func (p *Process) Running() bool {
	if p.child == nil {
		return false
	}
	select {
	case <-p.child.Done():
		return false
	default:
		return true
	}
}

// Kill ends the process as a crash does, and waits.
func (p *Process) Kill() {
	if p.Running() {
		_ = p.child.Signal(syscall.SIGKILL)
		<-p.child.Done()
	}
}

// Stop asks the process to end and waits until it has.
func (p *Process) Stop(within time.Duration) {
	p.t.Helper()
	if !p.Running() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := p.child.Stop(ctx, syscall.SIGTERM); err != nil {
		p.t.Logf("%s: %v", p.name, err)
	}
}

// Signal sends a signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.child.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// Output returns everything the process has written.
func (p *Process) Output() []byte {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	b, err := os.ReadFile(p.out.file.Name())
	if err != nil {
		return nil
	}
	return b
}

// AwaitEnd waits until the process has ended.
func (p *Process) AwaitEnd(within time.Duration) {
	p.t.Helper()
	select {
	case <-p.child.Done():
	case <-time.After(within):
		p.t.Fatalf("%s did not end within %v", p.name, within)
	}
}

// await waits until check answers nil or the process has ended.
func (p *Process) await(within time.Duration, check func() error) {
	p.t.Helper()
	testkit.Await(p.t, within, func() error {
		if !p.Running() {
			p.t.Fatalf("%s ended:\n%s", p.name, tail(p.Output(), 3000))
		}
		return check()
	})
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return append([]byte("…"), bytes.TrimSpace(b[len(b)-n:])...)
	}
	return bytes.TrimSpace(b)
}
