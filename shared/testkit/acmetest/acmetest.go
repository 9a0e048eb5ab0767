// Package acmetest gives tests an ACME authority each: letsencrypt/pebble, over TLS, on a free port, for which every name is on
// loopback. A test that needs one is skipped, and says so, where it cannot be built; with KEYWARD_FULL it fails. Tests of the
// control plane and the end-to-end tests call it.
package acmetest

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyward.dev/shared/run/child"
	"keyward.dev/shared/testkit/certtest"
)

// Options say what kind of authority it is.
type Options struct {
	// HTTPPort and TLSPort are where on 127.0.0.1 it looks whether a name is ours.
	HTTPPort, TLSPort string
	// Validity is how long certificates are valid; 0: 90 days.
	Validity time.Duration
	// External is an external account, ID:KEY, without which nobody gets an account.
	External string
	// Blocked is a name for which nothing is issued.
	Blocked string
}

// Server is an authority.
type Server struct {
	// Directory is the URL of its directory, CA the certificate in PEM by which that is verified, Root the one that verifies what
	// it issues.
	Directory, CA, Root string

	child *child.Child
}

// Start starts an authority that ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	program, dir := find(t), t.TempDir()
	ca := certtest.CA(t, "pebble")
	leaf := ca.Issue(t, "pebble", certtest.Names("localhost"), certtest.Template(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }))
	certificate, key := write(t, dir, "tls.crt", leaf.ChainPEM()), write(t, dir, "tls.key", leaf.KeyPEM(t))
	s := &Server{CA: ca.PEM()}
	args := []string{"-tls-cert", certificate, "-tls-key", key, "-http-port", cmp.Or(o.HTTPPort, "1"), "-tls-port", cmp.Or(o.TLSPort, "1")}
	if o.Validity > 0 {
		args = append(args, "-validity", o.Validity.String())
	}
	args = append(args, "-external-account", o.External, "-blocked", o.Blocked)
	root := s.launch(t, program, args)
	t.Cleanup(s.Stop)
	s.Root = fetch(t, root, ca.Cert)
	return s
}

// Stop ends the authority as a crash does.
func (s *Server) Stop() {
	_ = s.child.Signal(syscall.SIGKILL)
	<-s.child.Done()
}

func (s *Server) launch(t testing.TB, program string, args []string) (root string) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command(program, args...)
	// It hashes with SHA-1 where nothing depends on it, which a process in FIPS-only mode would hand down as forbidden.
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "GODEBUG=")
	cmd.Stdout = write
	s.child, err = child.Start(cmd, syscall.SIGKILL)
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(read).ReadString('\n')
	var at struct{ Directory, Root string }
	if err != nil || json.Unmarshal([]byte(line), &at) != nil {
		t.Fatalf("pebble did not start: %q %v", line, err)
	}
	s.Directory = at.Directory
	return at.Root
}

func fetch(t testing.TB, url string, ca *x509.Certificate) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("pebble: root certificate: %d %v", resp.StatusCode, err)
	}
	return string(text)
}

// find answers the path of the program, or skips the test.
func find(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		tool := filepath.Join(dir, ".tools", "tool")
		if _, err := os.Stat(tool); err != nil {
			continue
		}
		out, err := exec.Command(tool, "pebble").Output()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
		reason := fmt.Sprintf("pebble cannot be built: %v", err)
		if os.Getenv("KEYWARD_FULL") != "" {
			t.Fatal(reason)
		}
		t.Skip("NOT RUN: " + reason)
	}
	t.Fatal("pebble: this test runs outside the repository")
	return ""
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
