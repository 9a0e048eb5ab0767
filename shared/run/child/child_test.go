package child_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyward.dev/shared/run/child"
)

// parentVariable makes the test binary play the parent that gets killed.
const parentVariable = "KEYWARD_TEST_CHILD_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		actAsParent()
		return
	}
	os.Exit(m.Run())
}

// actAsParent starts a child that holds this process' stdout open, and then waits to be killed.
func actAsParent() {
	cmd := exec.Command("sh", "-c", "echo up; exec cat")
	cmd.Stdin, _, _ = os.Pipe()
	cmd.Stdout = os.Stdout
	if _, err := child.Start(cmd, syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}

func TestChildEndsWithItsKilledParent(t *testing.T) {
	t.Parallel()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(line) != "up" {
		t.Fatalf("child said %q, %v; want up", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The pipe ends only when the last process that holds it has gone: the orphan, if there is one.
	ended := make(chan error, 1)
	go func() { _, err := lines.ReadByte(); ended <- err }()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Errorf("read = %v, want EOF", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the child lives on after its parent was killed")
	}
	_ = parent.Wait()
}

func TestStopKillsAChildThatDoesNotListen(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", `trap "" TERM; echo deaf; while :; do sleep 1; done`)
	out, writeEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = writeEnd
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx, syscall.SIGTERM); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop() = %v, want a deadline error", err)
	}
	if err := c.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("Signal() after the end = %v, want nil", err)
	}
}

func TestStartNamesWhatItCouldNotStart(t *testing.T) {
	t.Parallel()
	_, err := child.Start(exec.Command("/nonexistent/program"), syscall.SIGKILL)
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/program") {
		t.Errorf("Start() = %v, want an error that names the program", err)
	}
}
