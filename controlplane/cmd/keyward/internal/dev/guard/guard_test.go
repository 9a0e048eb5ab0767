package guard_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keyward.dev/controlplane/cmd/keyward/internal/dev/guard"
)

// group starts a process in a group of its own.
func group(t *testing.T) (*exec.Cmd, <-chan error) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, done
}

func TestItCleansUpWhenTheOrdersEndWithoutAFarewell(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	left, leftDone := group(t)
	ended, _ := group(t)
	orders := fmt.Sprintf("dir %s\ngroup %d\ngroup %d\nforget %d\n", dir, left.Process.Pid, ended.Process.Pid, ended.Process.Pid)
	if err := guard.Watch(strings.NewReader(orders)); err != nil {
		t.Fatal(err)
	}
	<-leftDone // hangs if it was not killed
	if err := syscall.Kill(ended.Process.Pid, 0); err != nil {
		t.Errorf("a group that was taken back is gone: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is still there")
	}
}

func TestItDoesNothingOnceDismissed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := guard.Watch(strings.NewReader("dir " + dir + "\ndismiss\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the directory is gone: %v", err)
	}
}
