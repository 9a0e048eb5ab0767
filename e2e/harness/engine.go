package harness

import (
	"os"
	"strings"
	"testing"

	"keyward.dev/shared/testkit"
)

// Engines are the implementations of HTTP/1.1 that a gateway has. Both are held to the same tests;
// KEYWARD_HTTP_ENGINES=name,name chooses.
func Engines() []string {
	if names := os.Getenv("KEYWARD_HTTP_ENGINES"); names != "" {
		return strings.Split(names, ",")
	}
	return []string{"keyward", "net/http"}
}

// MainEngines are those that tests which take long are run with: in the full run all, elsewhere the first.
func MainEngines() []string {
	if Full() {
		return Engines()
	}
	return Engines()[:1]
}

// Edge is a gateway with a plain and a TLS listener, which may be stopped and started again.
type Edge struct {
	*Gateway
	Engine string
	HTTPS  string // host:port
	Cert   *Certificate
}

// StartEdge starts a gateway of a group with an engine, whose certificate is for the names.
func (c *Cluster) StartEdge(t testing.TB, group, engine string, names ...string) *Edge {
	t.Helper()
	e := c.NewEdge(t, group, engine, names...)
	e.Start()
	e.AwaitReady()
	return e
}

// NewEdge describes a gateway as StartEdge starts it.
func (c *Cluster) NewEdge(t testing.TB, group, engine string, names ...string) *Edge {
	t.Helper()
	e := &Edge{Engine: engine, HTTPS: testkit.Addr(t), Cert: NewCertificate(t, names...)}
	e.Gateway = c.NewGateway(c.JoinToken(group, 1), "--http-engine", engine, "--listen", "https="+e.HTTPS,
		"--tls-cert", e.Cert.CertFile, "--tls-key", e.Cert.KeyFile, "--identity-dir", t.TempDir())
	return e
}
