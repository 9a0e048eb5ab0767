package scenario_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// TestABadChangeIsUndoneFromTheCommandLine goes through what an operator does after a bad change: look what it was, look
// what undoing it would do, undo it, and see that a key revoked meanwhile stays revoked on the gateway until it is asked
// for.
func TestABadChangeIsUndoneFromTheCommandLine(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	good := strings.ReplaceAll(withUpstream(harness.Echo(t)), "limit: 5", "limit: 5000")
	then := c.Apply(good)
	gw := c.StartGateway("default")
	gw.AwaitRevision(then)
	was := c.MustCLI("", "export")
	awaitKey(t, gw, http.StatusOK)

	c.MustCLI("", "delete", "credential", "alice/alice-1")
	head := c.Apply("routes: [{name: hello, service: hello, hosts: [wrong.test]}]")
	awaitKey(t, gw, http.StatusNotFound)

	show := c.MustCLI("", "revisions", "show", fmt.Sprint(head))
	if !strings.Contains(show, "update routes/hello") || !strings.Contains(show, "wrong.test") {
		t.Errorf("revisions show: %s", show)
	}
	between := c.CLI("", "diff", fmt.Sprintf("%d..", then), "--exit-code")
	if between.Code != 1 || !strings.Contains(between.Stdout, "delete credentials/alice/alice-1") {
		t.Errorf("diff: exit %d\n%s%s", between.Code, between.Stdout, between.Stderr)
	}
	back := []string{"rollback", "--to", fmt.Sprint(then)}
	if out := c.CLI("", back...); out.Code != 2 || !strings.Contains(out.Stderr, "--yes") {
		t.Errorf("rollback without a terminal: exit %d %s", out.Code, out.Stderr)
	}
	before := dump(c, "resources", "heads", "changes", "audit")
	c.MustCLI("", append(back, "--dry-run", "--credentials")...)
	if dump(c, "resources", "heads", "changes", "audit") != before {
		t.Error("a dry run changed something")
	}

	c.UseReplica(1)
	out := c.CLI("", append(back, "--yes")...)
	if out.Code != 0 || !strings.Contains(out.Stdout, "updated routes/hello") || !strings.Contains(out.Stderr, "left as") {
		t.Errorf("rollback: exit %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	awaitKey(t, gw, http.StatusUnauthorized) // the route is back, the revoked key is not
	if out := c.CLI("", append(back, "--yes", "--credentials")...); out.Code != 0 || !strings.Contains(out.Stderr, "valid again") {
		t.Errorf("rollback with credentials: exit %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	awaitKey(t, gw, http.StatusOK)
	if is := c.MustCLI("", "export"); is != was {
		t.Errorf("the export is not the one of revision %d:\n%s\nbut\n%s", then, was, is)
	}
	if text, ok := c.CheckDB(); !ok {
		t.Errorf("check-db: %s", text)
	}
}

// awaitKey waits until the gateway answers a request with alice's key as wanted.
func awaitKey(t *testing.T, gw *harness.Gateway, want int) {
	t.Helper()
	testkit.Await(t, 10*time.Second, func() error {
		code, body := gw.Get(t, "hello.test", "/", "X-API-Key", "alice-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY")
		if code != want {
			return fmt.Errorf("request with the key: %d, want %d: %s", code, want, body)
		}
		return nil
	})
}
