package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"keyward.dev/shared/testkit/pgserver"
)

// BackupWhole runs keyward-controlplane backup and returns the file and what was said.
func (c *Cluster) BackupWhole(recipient string) (file, said string) {
	c.T.Helper()
	file = filepath.Join(c.T.TempDir(), "whole")
	return file, string(c.once(c.env(), "backup", "--recipient", recipient, "--out", file))
}

// LoseDatabase destroys the database. There is a new, empty one at another address, to which the link leads; the control plane
// has to reach it by its link.
func (c *Cluster) LoseDatabase() {
	c.T.Helper()
	c.StopDatabase()
	if err := os.RemoveAll(c.PG.Dir()); err != nil {
		c.T.Fatal(err)
	}
	dir, err := os.MkdirTemp(c.Dir, "elsewhere-")
	if err != nil {
		c.T.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // as in New
		c.T.Fatal(err)
	}
	pg, err := pgserver.Start(c.T.Context(), pgserver.Config{Dir: dir, Durable: true})
	if err != nil {
		c.T.Fatal(err)
	}
	c.PG = pg
	if err := c.PG.Exec(c.T.Context(), "postgres", "create database "+database); err != nil {
		c.T.Fatal(err)
	}
	c.Database.Turn(c.databaseAddr())
}

// RestoreWhole runs keyward-controlplane restore as the owner of the database and returns what came of it.
func (c *Cluster) RestoreWhole(file string, args ...string) Output {
	c.T.Helper()
	cmd := c.restoreWhole(file, args)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		c.T.Fatal(err)
	}
	return Output{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// StartRestoreWhole is RestoreWhole as a process that can be killed.
func (c *Cluster) StartRestoreWhole(file string) *Process {
	c.T.Helper()
	cmd := c.restoreWhole(file, nil)
	p := NewProcess(c.T, "restore", cmd.Path, cmd.Env, cmd.Args[1:]...)
	p.Start()
	return p
}

func (c *Cluster) restoreWhole(file string, args []string) *exec.Cmd {
	args = append([]string{"restore", "--in", file}, args...)
	cmd := exec.CommandContext(context.WithoutCancel(c.T.Context()), c.Programs.program(c.T, "keyward-controlplane"), args...)
	cmd.Env = append(append(environment(), "KEYWARD_DATABASE_URL="+c.PG.URL(database), "KEYWARD_RUNTIME_PASSWORD="+c.runtimePassword), c.kek...)
	return cmd
}
