package scenario_test

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

// TestNothingSecretIsReadableAnywhere writes a canary and looks for it wherever somebody could look: tables, the
// database's files including its log, the processes' debug logs, API answers, errors, status and metrics.
func TestNothingSecretIsReadableAnywhere(t *testing.T) {
	t.Parallel()
	const canary = "CANARY7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"
	c := harness.New(t, harness.Options{})
	upstream := harness.Nginx(t)
	doc := strings.ReplaceAll(withUpstream(upstream), "alice-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY", canary)
	revision := c.Apply(doc)
	g := c.StartGateway("default")
	g.AwaitRevision(revision)
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", canary); code != http.StatusOK {
		t.Fatalf("with the key: %d %s", code, body)
	}
	joinToken := c.JoinToken("default", 1)
	answers := []harness.Answer{
		c.REST(http.MethodGet, "/v1/groups/default/consumers/alice/credentials/alice-1", ""),
		c.REST(http.MethodGet, "/v1/groups/default/consumers/alice/credentials", ""),
		c.REST(http.MethodGet, "/v1/groups/default:export", ""),
		c.REST(http.MethodGet, "/v1/groups/default/audit-events", ""),
		c.REST(http.MethodGet, "/v1/groups/default/revisions", ""),
		// A document that is wrong near the secret: the error must not repeat it.
		c.REST(http.MethodPost, "/v1/groups/default:apply", strings.ReplaceAll(doc, "key: \""+canary, "key: {bad: \""+canary+"\"}, x: \""+canary)),
	}
	for _, a := range answers {
		mustNotHold(t, "an answer of the API", a.Body, canary)
	}
	for _, addr := range []string{c.Replicas[0].Status + "/metrics", g.Status + "/metrics", g.Status + "/status"} {
		resp, err := http.Get("http://" + addr) //nolint:noctx // a test's own server on loopback
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		resp.Body.Close()
		mustNotHold(t, addr, body.Bytes(), canary)
	}
	mustNotHold(t, "the control plane's log", c.Replicas[0].Output(), canary, c.Token, joinToken)
	mustNotHold(t, "the gateway's log", g.Output(), canary)
	for _, table := range c.Tables() {
		mustNotHold(t, "a table", table, canary, c.Token, joinToken)
	}
	if err := c.PG.Exec(t.Context(), "postgres", "checkpoint"); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(c.Dir, "postgres"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // files come and go under a running server
		}
		if b, err := os.ReadFile(path); err == nil {
			mustNotHold(t, path, b, canary, c.Token, joinToken)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustNotHold(t *testing.T, where string, content []byte, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if bytes.Contains(content, []byte(s)) {
			t.Errorf("%s holds a secret in the clear", where)
		}
	}
}
