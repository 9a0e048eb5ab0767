package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"keyward.dev/shared/run/child"

	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// commandGrace is how long the command of --exec has after a signal to us.
const commandGrace = 2 * time.Second

// gated waits for a line on descriptor 3 before it becomes the command. Without one, because we were killed before the
// guard knew of the command, nothing is run.
const gated = `read -r go <&3 || exit 1; exec 3<&-; unset go; exec sh -c "$0"`

// execute runs the command of --exec with the variables and answers its exit status as an error.
func (s *stack) execute(ctx context.Context, vars map[string]string) error {
	gate, open, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	defer open.Close()
	defer gate.Close()
	cmd := exec.Command("sh", "-c", gated, s.opts.Exec)
	cmd.ExtraFiles = []*os.File{gate}
	cmd.Env = os.Environ()
	for k, v := range vars {
		cmd.Env = append(cmd.Env, k+"="+v) // the last one of a name counts
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, s.opts.Factory.IO.Out, s.opts.Factory.IO.Err
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	// A command that a person works with needs the terminal, so it stays in our process group, and Ctrl-C is for it alone.
	// Any other gets a group of its own, so that everything it started can be ended with it.
	interactive := s.opts.Factory.IO.OutTTY
	if interactive {
		s.opts.Factory.LeaveInterrupt.Store(true)
		defer s.opts.Factory.LeaveInterrupt.Store(false)
	} else {
		cmd.SysProcAttr.Setpgid = true
	}
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	kill := func(sig syscall.Signal) { _ = c.Signal(sig) }
	if !interactive {
		pgid := c.PID()
		s.guard.Group(pgid)
		defer s.guard.Forget(pgid)
		kill = func(sig syscall.Signal) { _ = syscall.Kill(-pgid, sig) }
		// What the command left running in the background ends with us.
		defer kill(syscall.SIGKILL)
	}
	if _, err := open.WriteString("go\n"); err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	select {
	case <-c.Done():
		return status(c.Err())
	case <-ctx.Done():
	}
	kill(termSignal)
	timer := time.NewTimer(commandGrace)
	defer timer.Stop()
	select {
	case <-c.Done():
	case <-timer.C:
		kill(syscall.SIGKILL)
		<-c.Done()
	}
	return failure.Exit(128 + int(termSignal))
}

// status turns the end of the command into ours.
func status(err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("run command: %w", err)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return failure.Exit(128 + int(ws.Signal()))
	}
	return failure.Exit(exit.ExitCode())
}
