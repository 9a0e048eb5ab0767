package dev_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
)

// These tests run keyward dev with a real PostgreSQL and stand-ins for the other two programs.

// bin makes a directory with the three programs.
func bin(t *testing.T) string {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := openDir(t)
	for _, name := range []string{"keyward", "keyward-controlplane", "keyward-dataplane"} {
		if err := os.Link(own, filepath.Join(dir, name)); err != nil {
			copyFile(t, own, filepath.Join(dir, name))
		}
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// openDir makes a directory that the user of PostgreSQL can enter, which those of testing are not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyward-dev-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// instance is one running keyward dev.
type instance struct {
	cmd    *exec.Cmd
	bin    string
	tag    string
	vars   map[string]string
	stdout *bufio.Reader
	stderr *buffer
	done   chan error
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// launch starts keyward dev on free ports. Its temporary state directory, if it has one, is in tmp.
func launch(t *testing.T, dir, tmp string, args ...string) *instance {
	t.Helper()
	i := &instance{bin: dir, tag: fmt.Sprintf("tag-%s-%d", filepath.Base(dir), time.Now().UnixNano()), stderr: &buffer{}, done: make(chan error, 1)}
	i.cmd = exec.Command(filepath.Join(dir, "keyward"), append([]string{"dev", "--ports", "auto"}, args...)...)
	i.cmd.Env = append(os.Environ(), "TEST_TAG="+i.tag, "TMPDIR="+tmp, "KEYWARD_ADDR=https://wrong.test:1")
	i.cmd.Stderr = i.stderr
	out, err := i.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	i.stdout = bufio.NewReader(out)
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = i.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("stderr of keyward dev:\n%s", i.stderr)
		}
	})
	return i
}

// ready reads the first line.
func (i *instance) ready(t *testing.T) map[string]string {
	t.Helper()
	line, err := i.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("first line %q: %v", line, err)
	}
	if err := json.Unmarshal([]byte(line), &i.vars); err != nil {
		t.Fatalf("first line %q: %v", line, err)
	}
	return i.vars
}

// end waits for the end and answers the exit code.
func (i *instance) end(t *testing.T) int {
	t.Helper()
	go func() {
		_, _ = io.Copy(io.Discard, i.stdout)
		i.done <- i.cmd.Wait()
	}()
	select {
	case err := <-i.done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return i.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		t.Fatal("keyward dev does not end")
		return 0
	}
}

// left lists the processes of this run that still live: by their environment, PostgreSQL's by its command line.
func (i *instance) left() map[int]string {
	found := map[int]string{}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		env, _ := os.ReadFile(p + "/environ")
		line, _ := os.ReadFile(p + "/cmdline")
		stat, _ := os.ReadFile(p + "/stat")
		if bytes.Contains(stat, []byte(") Z ")) {
			continue
		}
		dir := i.vars["KEYWARD_DEV_DIR"]
		if bytes.Contains(env, []byte(i.tag)) || dir != "" && bytes.Contains(line, []byte(dir)) {
			pid, _ := strconv.Atoi(filepath.Base(p))
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

func (i *instance) nothingLeft(t *testing.T) {
	t.Helper()
	testkit.Await(t, 5*time.Second, func() error {
		if left := i.left(); len(left) > 0 {
			return fmt.Errorf("processes are left: %v", left)
		}
		return nil
	})
}

// named answers the process of this run that was called by this name.
func (i *instance) named(name string) (pid int) {
	for pid, line := range i.left() {
		if program, _, _ := strings.Cut(line, " "); filepath.Base(program) == name {
			return pid
		}
	}
	return 0
}

// keyward runs another command.
func (i *instance) keyward(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(i.bin, "keyward"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("keyward %v: %v: %s", args, err, out)
	}
}

func reachable(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func TestEverythingComesUpAndGoes(t *testing.T) {
	t.Parallel()
	state := filepath.Join(openDir(t), "state")
	i := launch(t, bin(t), os.TempDir(), "--gateways", "2", "--dir", state)
	vars := i.ready(t)
	for _, name := range []string{"ADDR", "TOKEN", "CACERT", "HTTP", "HTTPS", "STATUS", "DATABASE_URL"} {
		if vars["KEYWARD_"+name] == "" {
			t.Errorf("KEYWARD_%s is missing in %v", name, vars)
		}
	}
	if n := len(strings.Split(vars["KEYWARD_HTTP"], ",")); n != 2 || !strings.HasPrefix(vars["KEYWARD_ADDR"], "https://") {
		t.Errorf("%d gateways at %s; want 2", n, vars["KEYWARD_ADDR"])
	}
	secretsAreClosed(t, state, vars["KEYWARD_TOKEN"])
	admin := strings.TrimPrefix(vars["KEYWARD_ADDR"], "https://")

	if err := syscall.Kill(i.named("keyward-controlplane"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, testkit.Deadline, func() error {
		if !strings.Contains(i.stderr.String(), "controlplane (pid") {
			return errors.New("its death is not reported")
		}
		return nil
	})
	if reachable(admin) {
		t.Error("the control plane came back by itself")
	}
	i.keyward(t, "dev", "start", "controlplane", "--dir", state)
	if !reachable(admin) {
		t.Error("the control plane is not where it was")
	}
	i.keyward(t, "dev", "stop", "gateway-2", "--dir", state)
	if reachable(strings.Split(vars["KEYWARD_HTTP"], ",")[1]) {
		t.Error("gateway-2 is not stopped")
	}

	dbAddr, _, _ := strings.Cut(strings.SplitN(vars["KEYWARD_DATABASE_URL"], "@", 2)[1], "/")
	i.keyward(t, "dev", "stop", "postgres", "--dir", state)
	if reachable(dbAddr) {
		t.Error("postgres is not stopped")
	}
	i.keyward(t, "dev", "start", "postgres", "--dir", state)
	if !reachable(dbAddr) {
		t.Error("postgres is not where it was")
	}

	start := time.Now()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := i.end(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s to end, want at most 10s", took)
	}
	i.nothingLeft(t)

	again := launch(t, i.bin, os.TempDir(), "--gateways", "2", "--dir", state, "--exec", "true")
	if vars2 := again.ready(t); vars2["KEYWARD_ADDR"] != vars["KEYWARD_ADDR"] || vars2["KEYWARD_HTTP"] != vars["KEYWARD_HTTP"] || vars2["KEYWARD_TOKEN"] != vars["KEYWARD_TOKEN"] {
		t.Errorf("the second run has %v, the first had %v", vars2, vars)
	}
	if code := again.end(t); code != 0 {
		t.Errorf("exit code %d of --exec true, want 0", code)
	}
}

// secretsAreClosed finds the token, and private keys, in nothing that others could read.
func secretsAreClosed(t *testing.T, dir, token string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "postgres" {
				return fs.SkipDir // closed by PostgreSQL itself
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		secret := bytes.Contains(data, []byte(token)) || bytes.Contains(data, []byte("PRIVATE KEY")) || filepath.Base(filepath.Dir(path)) == "secrets"
		if secret && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s holds a secret and has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftWhenItIsKilled(t *testing.T) {
	t.Parallel()
	tmp := openDir(t)
	i := launch(t, bin(t), tmp, "--exec", "sleep 1000 & echo up; sleep 1000")
	state := i.ready(t)["KEYWARD_DEV_DIR"]
	if line, err := i.stdout.ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("command said %q, %v", line, err)
	}
	testkit.Await(t, 5*time.Second, func() error { // "up" is said before both sleeps are what they will be
		if left := i.left(); len(left) < 6 {
			return fmt.Errorf("%d processes found, want keyward, control plane, gateway, PostgreSQL, sh and two sleeps: %v", len(left), left)
		}
		return nil
	})
	if err := i.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	i.nothingLeft(t)
	_ = i.cmd.Wait() // which reads stderr to its end: what is left would hold it open
	awaitRemoved(t, state)
}

func awaitRemoved(t *testing.T, dir string) {
	t.Helper()
	testkit.Await(t, 5*time.Second, func() error {
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("the temporary directory %s is left", dir)
		}
		return nil
	})
}

// The command kills keyward dev with its second act: there is no moment at which it runs and nobody would end it.
func TestNothingIsLeftWhenItsCommandKillsIt(t *testing.T) {
	t.Parallel()
	tmp := openDir(t)
	i := launch(t, bin(t), tmp, "--gateways", "0", "--exec", "sleep 1000 & kill -9 $PPID; sleep 1000")
	state := i.ready(t)["KEYWARD_DEV_DIR"]
	i.nothingLeft(t)
	awaitRemoved(t, state)
}

func TestExecGetsTheVariablesAndGivesItsStatus(t *testing.T) {
	t.Parallel()
	tmp := openDir(t)
	i := launch(t, bin(t), tmp, "--gateways", "1", "--exec", `echo "$KEYWARD_ADDR"; sleep 1000 & exit 7`)
	vars := i.ready(t)
	if line, err := i.stdout.ReadString('\n'); err != nil || strings.TrimSpace(line) != vars["KEYWARD_ADDR"] {
		t.Errorf("command said %q, %v; want %s", line, err, vars["KEYWARD_ADDR"])
	}
	if code := i.end(t); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	i.nothingLeft(t)
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestWhatDoesNotComeUpIsNamedWithItsLastWords(t *testing.T) {
	t.Parallel()
	t.Run("control plane", func(t *testing.T) {
		t.Parallel()
		dir := bin(t)
		cmd := exec.Command(filepath.Join(dir, "keyward"), "dev", "--ports", "auto")
		cmd.Env = append(os.Environ(), "TEST_BROKEN=1")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the fake control plane is broken") {
			t.Errorf("keyward dev = %v, %s; want the control plane's last words", err, out)
		}
	})
	t.Run("program", func(t *testing.T) {
		t.Parallel()
		dir := bin(t)
		if err := os.Remove(filepath.Join(dir, "keyward-dataplane")); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(filepath.Join(dir, "keyward"), "dev").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "keyward-dataplane") || !strings.Contains(string(out), "make build") {
			t.Errorf("keyward dev = %v, %s; want what is missing and what to do", err, out)
		}
	})
}
