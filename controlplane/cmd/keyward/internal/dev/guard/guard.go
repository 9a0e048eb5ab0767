// Package guard cleans up when `keyward dev` is killed and cannot do so itself. A small process of its own holds the
// reading end of a pipe; when the pipe ends without a farewell, it kills the process groups it was told of and removes the
// directory it was told of. The kernel ends our direct children in any case; this is for what those started in turn.
package guard

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Guard is the side of the process that may be killed.
type Guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// Start starts the guard: the given program with arguments that make it call Watch.
func Start(path string, args ...string) (*Guard, error) {
	cmd := exec.Command(path, args...)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	cmd.Env = []string{}
	cmd.Dir = "/"
	// Out of our session: what is sent to our process group or terminal is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	return &Guard{cmd: cmd, pipe: pipe}, nil
}

// Dir names a directory to remove.
func (g *Guard) Dir(path string) { g.tell("dir " + path) }

// Group names a process group to kill.
func (g *Guard) Group(pgid int) { g.tell("group " + strconv.Itoa(pgid)) }

// Forget takes a process group back: it has ended.
func (g *Guard) Forget(pgid int) { g.tell("forget " + strconv.Itoa(pgid)) }

// tell writes one line. A guard that is gone cannot be told, and there is nothing to do about it.
func (g *Guard) tell(line string) { _, _ = io.WriteString(g.pipe, line+"\n") }

// Dismiss ends the guard; it does nothing any more.
func (g *Guard) Dismiss() {
	g.tell("dismiss")
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}

// Watch is the guard's own work: it reads orders until they end, and cleans up unless it was dismissed.
func Watch(orders io.Reader) error {
	groups := map[int]bool{}
	dir := ""
	lines := bufio.NewScanner(orders)
	for lines.Scan() {
		verb, arg, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.Atoi(arg)
		switch verb {
		case "dir":
			dir = arg
		case "group":
			groups[n] = true
		case "forget":
			delete(groups, n)
		case "dismiss":
			return nil
		}
	}
	for pgid := range groups {
		if pgid > 1 {
			_ = syscall.Kill(-pgid, syscall.SIGKILL)
		}
	}
	return remove(dir)
}

// Together two seconds: what the kernel kills with us is gone long before.
const (
	removeAttempts = 40
	removePause    = 50 * time.Millisecond
)

// remove tries several times: the processes that are just being killed may still write.
func remove(dir string) (err error) {
	if dir == "" {
		return nil
	}
	for range removeAttempts {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(removePause)
	}
	return fmt.Errorf("remove state: %w", err)
}
