// Package child starts processes that cannot outlive the process that started them: `keyward dev`, the throw-away
// PostgreSQL and the end-to-end harness are its callers. It does not restart anything and does not read their output.
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Child is one running process. Its methods may be called from any goroutine.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts cmd so that the kernel sends it onParentDeath when this process ends, however that happens.
//
// The kernel watches the thread that forked, not the process: a dedicated, locked thread forks and then lives as long as
// the child. Without it the Go scheduler may end that thread, and with it the child, at any time.
//
// cmd's standard streams should be files or nil: with any other reader or writer the child counts as ended only when
// that has been drained.
func Start(cmd *exec.Cmd, onParentDeath syscall.Signal) (*Child, error) {
	tieToParent(cmd, onParentDeath)
	c := &Child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", cmd.Path, err)
			return
		}
		started <- nil
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// PID returns the process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed once the process has ended and was reaped.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err says how the process ended, as exec.Cmd.Wait does. It may be called only after Done is closed.
func (c *Child) Err() error { return c.err }

// Signal sends a signal; a process that has ended already is not an error.
func (c *Child) Signal(sig os.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %d: %w", c.PID(), err)
	}
	return nil
}

// Stop asks the process to end with sig, waits, and kills it when ctx ends first; only the latter is an error.
func (c *Child) Stop(ctx context.Context, sig os.Signal) error {
	if err := c.Signal(sig); err != nil {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	if err := c.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-c.done
	return fmt.Errorf("%s did not end after %s and was killed: %w", c.cmd.Path, sig, context.Cause(ctx))
}
