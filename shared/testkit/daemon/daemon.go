// Package daemon runs a server of somebody else's for a test, and has it crash, hang and come back. Packages that start certain
// servers call it.
package daemon

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"keyward.dev/shared/run/child"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// Daemon is a server of a test, and ends with it.
type Daemon struct {
	t     testing.TB
	child *child.Child
}

// Start starts a server that writes to a file, which is not emptied, and waits until it is ready.
func Start(t testing.TB, cmd *exec.Cmd, output string, ready func() error) *Daemon {
	t.Helper()
	out, err := os.OpenFile(output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	d := &Daemon{t: t}
	if d.child, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	testkit.Await(t, testkit.Deadline, func() error {
		select {
		case <-d.child.Done():
			said, _ := os.ReadFile(output)
			t.Fatalf("%s ended: %v: %s", filepath.Base(cmd.Path), d.child.Err(), said)
		default:
		}
		return ready()
	})
	return d
}

// Certify writes cert.pem, key.pem and ca.pem for a server on loopback into a directory, and answers the authority.
func Certify(t testing.TB, dir, name string) *certtest.Cert {
	t.Helper()
	ca := certtest.CA(t, name+" test root")
	leaf := ca.Issue(t, name, certtest.Names("localhost"), certtest.Template(func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}))
	for file, text := range map[string]string{"cert.pem": leaf.ChainPEM(), "key.pem": leaf.KeyPEM(t), "ca.pem": ca.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ca
}

// Stop ends the server as a crash does.
func (d *Daemon) Stop() {
	_ = d.child.Signal(syscall.SIGKILL)
	<-d.child.Done()
}

// Pause makes the server hang: the system still takes connections for it, and nobody answers on them.
func (d *Daemon) Pause() {
	d.t.Helper()
	_ = d.child.Signal(syscall.SIGSTOP)
	testkit.Await(d.t, testkit.Deadline, d.stopped) // its threads stop one after the other
}

// stopped says which thread of the server still runs.
func (d *Daemon) stopped() error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.child.PID()))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("no threads found: %w", err)
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("look at a thread: %w", err)
		}
		_, state, _ := bytes.Cut(stat, []byte(") "))
		if !bytes.HasPrefix(state, []byte("T")) {
			return fmt.Errorf("%s says %.1s", file, state)
		}
	}
	return nil
}

// Resume ends that.
func (d *Daemon) Resume() { _ = d.child.Signal(syscall.SIGCONT) }
