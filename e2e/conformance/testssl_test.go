package conformance_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"keyward.dev/e2e/harness"
)

// TestDefaultsWithstandTestssl has testssl.sh look for weak protocols, ciphers and known vulnerabilities in a gateway on
// default settings.
func TestDefaultsWithstandTestssl(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("testssl")
	if err != nil {
		if harness.Full() {
			t.Fatal(err)
		}
		t.Skip("NOT RUN: testssl.sh is not installed; make setup FULL=1 installs it")
	}
	if !harness.Full() {
		t.Skip("NOT RUN: it takes half a minute; KEYWARD_FULL=1 runs it")
	}
	g := secureEdge(t)
	_, port, err := net.SplitHostPort(g.HTTPS)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.CommandContext(t.Context(), tool, "--quiet", "--color=0", "--warnings=off", "--nodns=none", "--ip=127.0.0.1",
		"--protocols", "--std", "--pfs", "--server-preference", "--vulnerable", "--jsonfile="+report, "https://hello.test:"+port)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("testssl.sh: %v\n%.4000s", err, out)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if len(findings) < 40 {
		t.Errorf("testssl.sh looked at %d things only: %s", len(findings), text)
	}
	for _, f := range findings {
		if _, known := aside()[f.ID]; !known && f.Severity != "OK" && f.Severity != "INFO" {
			t.Errorf("%s %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
}

// aside are findings that say nothing of the gateway, and why.
func aside() map[string]string {
	return map[string]string{
		"engine_problem": "the scanner's own OpenSSL has no engine for GOST ciphers, which depends on where it is installed",
	}
}

// TestHybridKeyExchangeIsAgreedOn holds that who can gets a key exchange that a quantum computer does not undo later, and who
// cannot gets one all the same.
func TestHybridKeyExchangeIsAgreedOn(t *testing.T) {
	t.Parallel()
	g := secureEdge(t)
	for _, tt := range []struct {
		offered []tls.CurveID
		want    tls.CurveID
	}{
		{nil, tls.X25519MLKEM768},
		{[]tls.CurveID{tls.X25519, tls.X25519MLKEM768}, tls.X25519MLKEM768},
		{[]tls.CurveID{tls.CurveP256}, tls.CurveP256},
	} {
		conn, err := tls.Dial("tcp", g.HTTPS, &tls.Config{
			RootCAs: g.Cert.Roots, ServerName: "hello.test", MinVersion: tls.VersionTLS12, CurvePreferences: tt.offered,
		})
		if err != nil {
			t.Errorf("offered %v: %v", tt.offered, err)
			continue
		}
		if got := conn.ConnectionState().CurveID; got != tt.want {
			t.Errorf("offered %v: agreed on %v, want %v", tt.offered, got, tt.want)
		}
		conn.Close()
	}
}

func secureEdge(t *testing.T) *harness.Edge {
	t.Helper()
	c := harness.New(t, harness.Options{})
	revision := c.Apply(fmt.Sprintf(`group: default
settings: {require_https: false}
services: [{name: hello, url: "http://%s"}]
routes: [{name: hello, service: hello, hosts: [hello.test]}]
`, harness.Nginx(t)))
	g := c.StartEdge(t, "default", "keyward", "hello.test")
	g.AwaitRevision(revision)
	return g
}
