package scenario_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// TestCommandLineAgainstTheRealThing goes through the commands as a person does, without gateways.
func TestCommandLineAgainstTheRealThing(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	doc := withUpstream("127.0.0.1:9")

	t.Run("apply, diff, export", func(t *testing.T) {
		out := c.CLI(doc, "apply", "-f", "-", "--wait")
		if out.Code != 0 || !strings.Contains(out.Stderr, "no gateway") {
			t.Errorf("apply --wait without gateways: exit %d, %q", out.Code, out.Stderr)
		}
		for _, line := range []string{"created services/hello", "created routes/hello", "created consumers/alice", "created credentials/alice/alice-1"} {
			if !strings.Contains(out.Stdout, line+"\n") {
				t.Errorf("apply printed %q, without %q", out.Stdout, line)
			}
		}
		revision := c.Apply(doc)
		for _, args := range [][]string{{"diff", "-f", "-"}, {"diff", "-f", "-", "--exit-code"}, {"diff", "-f", "-", "--prune", "--exit-code"}} {
			if out := c.CLI(doc, args...); out.Code != 0 || out.Stdout != "" {
				t.Errorf("%v after apply: exit %d, %q", args, out.Code, out.Stdout)
			}
		}
		for _, format := range []string{"yaml", "json"} {
			export := c.MustCLI("", "export", "-o", format)
			if out := c.CLI(export, "apply", "-f", "-", "--prune"); out.Code != 0 || !strings.Contains(out.Stderr, "nothing to change") {
				t.Errorf("export -o %s | apply --prune: exit %d %q", format, out.Code, out.Stderr)
			}
			if out := c.CLI(export, "diff", "-f", "-", "--prune", "--exit-code"); out.Code != 0 || out.Stdout != "" {
				t.Errorf("export -o %s | diff: exit %d %q", format, out.Code, out.Stdout)
			}
		}
		if again := c.Apply(doc); again != revision {
			t.Errorf("export and apply made revision %d after %d", again, revision)
		}
	})
	t.Run("diff shows what apply would do", func(t *testing.T) {
		changed := strings.ReplaceAll(strings.ReplaceAll(doc, "limit: 5", "limit: 6"), "alice-Zq7x", "alice-Yq7x")
		before := dump(c, "resources", "heads")
		for _, args := range [][]string{{"diff", "-f", "-"}, {"apply", "-f", "-", "--dry-run"}} {
			out := c.CLI(changed, args...)
			if out.Code != 0 || !strings.Contains(out.Stdout, "routes/hello") || !strings.Contains(out.Stdout, "credentials/alice/alice-1") ||
				strings.Contains(out.Stdout, "bob") || strings.Contains(out.Stdout+out.Stderr, "Yq7x") {
				t.Errorf("%v: exit %d\n%s%s", args, out.Code, out.Stdout, out.Stderr)
			}
		}
		if out := c.CLI(changed, "diff", "-f", "-", "--exit-code"); out.Code != 1 {
			t.Errorf("diff --exit-code with a difference: exit %d", out.Code)
		}
		if dump(c, "resources", "heads") != before {
			t.Error("diff or a dry run changed something")
		}
	})
	t.Run("get and delete", func(t *testing.T) {
		if out := c.MustCLI("", "get", "routes"); !strings.Contains(out, "hello") || !strings.Contains(out, "open") {
			t.Errorf("get routes: %s", out)
		}
		var route struct {
			Name, Service string
			Hosts         []string
		}
		decode(t, c.MustCLI("", "get", "route", "hello", "-o", "json"), &route)
		if route.Name != "hello" || route.Service != "hello" || len(route.Hosts) != 1 {
			t.Errorf("get route hello: %+v", route)
		}
		for _, tt := range []struct {
			code int
			args []string
		}{
			{3, []string{"get", "route", "none"}},
			{3, []string{"get", "routes", "-g", "none"}},
			{3, []string{"delete", "route", "none"}},
			{4, []string{"delete", "service", "hello"}},
			{4, []string{"delete", "route", "open", "--if-match", "0"}},
			{2, []string{"get", "rainbows"}},
			{2, []string{"get"}},
			{2, []string{"apply"}},
			{2, []string{"get", "routes", "-o", "xml"}},
			{2, []string{"nonsense"}},
			{0, []string{"delete", "credential", "bob/bob-1"}},
			{0, []string{"delete", "consumer", "bob"}},
		} {
			if out := c.CLI("", tt.args...); out.Code != tt.code || (tt.code != 0 && (out.Stderr == "" || out.Stdout != "")) {
				t.Errorf("keyward %v: exit %d, want %d\n%s%s", tt.args, out.Code, tt.code, out.Stdout, out.Stderr)
			}
		}
	})
	t.Run("explain and route test", func(t *testing.T) {
		out := c.MustCLI("", "explain", "route", "hello", "--consumer", "alice")
		for _, word := range []string{"key-auth", "acl", "rate-limit", "route"} {
			if !strings.Contains(out, word) {
				t.Errorf("explain route without %q:\n%s", word, out)
			}
		}
		if out := c.MustCLI("", "explain", "policy", "rate-limit"); !strings.Contains(out, "windows") {
			t.Errorf("explain policy rate-limit: %s", out)
		}
		for _, tt := range []struct {
			args   []string
			status int
			route  string
		}{
			{[]string{"GET", "http://hello.test/x", "--as", "alice"}, 0, "hello"},
			{[]string{"GET", "http://nowhere.test/"}, 404, ""},
			{[]string{"GET", "http://open.test/a%2Fb"}, 400, ""},
		} {
			out := c.CLI("", append([]string{"route", "test", "-o", "json"}, tt.args...)...)
			var got struct {
				Route  string `json:"route"`
				Status int    `json:"status"`
			}
			decode(t, out.Stdout, &got)
			if got.Status != tt.status || got.Route != tt.route || (out.Code == 0) != (tt.route != "") {
				t.Errorf("route test %v = %+v, exit %d; want %d %q", tt.args, got, out.Code, tt.status, tt.route)
			}
		}
	})
	t.Run("history", func(t *testing.T) {
		if out := c.MustCLI("", "revisions"); strings.Count(out, "\n") < 4 {
			t.Errorf("revisions: %s", out)
		}
		if out := c.MustCLI("", "audit", "list"); !strings.Contains(out, "resources.apply") {
			t.Errorf("audit list: %s", out)
		}
		if out := c.MustCLI("", "audit", "verify"); !strings.Contains(out, "intact") {
			t.Errorf("audit verify: %s", out)
		}
		c.MustCLI("", "audit", "verify", "-g", "system")
	})
	t.Run("groups, tokens and who one is", func(t *testing.T) {
		c.MustCLI("", "groups", "create", "payments", "--description", "pays")
		if out := c.CLI("", "groups", "create", "payments"); out.Code != 4 {
			t.Errorf("the same group again: exit %d %s", out.Code, out.Stderr)
		}
		if out := c.MustCLI("", "groups", "list"); !strings.Contains(out, "payments") || !strings.Contains(out, "default") {
			t.Errorf("groups list: %s", out)
		}
		token := strings.TrimSpace(c.MustCLI("", "token", "create", "ci", "--grant", "payments=viewer"))
		if out := c.CLIAs(token, "", "whoami"); out.Code != 0 || !strings.Contains(out.Stdout, "ci") || !strings.Contains(out.Stdout, "viewer") {
			t.Errorf("whoami: exit %d %s%s", out.Code, out.Stdout, out.Stderr)
		}
		if out := c.CLIAs(token, "", "groups", "list"); strings.Contains(out.Stdout, "default") {
			t.Errorf("a token of one group sees the others: %s", out.Stdout)
		}
		if out := c.CLIAs(token, "group: payments\n", "apply", "-f", "-"); out.Code != 1 {
			t.Errorf("a viewer applies: exit %d", out.Code)
		}
		if out := c.CLIAs("", "", "get", "routes"); out.Code == 0 {
			t.Error("no token, and yet an answer")
		}
		c.MustCLI("", "token", "delete", idOf(token))
		if out := c.CLIAs(token, "", "whoami"); out.Code != 1 {
			t.Errorf("whoami with a deleted token: exit %d", out.Code)
		}
	})
	t.Run("version and completion", func(t *testing.T) {
		if out := c.MustCLI("", "version"); strings.Count(out, "\n") < 2 {
			t.Errorf("version: %s", out)
		}
		for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
			if out := c.MustCLI("", "completion", shell); !strings.Contains(out, "keyward") {
				t.Errorf("completion %s: %.100s", shell, out)
			}
		}
		if out := c.MustCLI("", "__complete", "get", "ro"); !strings.Contains(out, "routes") {
			t.Errorf("completing a kind: %s", out)
		}
	})
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("not JSON: %q: %v", text, err)
	}
}

// TestApplyReadsDirectories takes a document in pieces, and names the file that is wrong.
func TestApplyReadsDirectories(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a.yaml": "group: default\nservices: [{name: s, url: \"http://127.0.0.1:1\"}]\n",
		"b.yml":  "routes: [{name: r, service: s}]\n",
		"c.json": `{"consumers": [{"name": "c"}]}`,
		"d.txt":  "not a document",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out := c.MustCLI("", "apply", "-f", dir); strings.Count(out, "created") != 3 {
		t.Errorf("apply of a directory: %s", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.yml"), []byte("routes: [{name: r, service: gone}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := c.CLI("", "apply", "-f", dir); out.Code != 1 || !strings.Contains(out.Stderr, "routes[0].service") {
		t.Errorf("apply of a broken directory: exit %d %s", out.Code, out.Stderr)
	}
}

// TestWaitAndKeysOnARealGateway needs one: waiting, generated and rotated keys, the registry.
func TestWaitAndKeysOnARealGateway(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(withUpstream(harness.Nginx(t)))
	g := c.StartGateway("default")

	limitless := strings.ReplaceAll(withUpstream(harness.Nginx(t)), "limit: 5", "limit: 5000")
	if out := c.CLI(limitless, "apply", "-f", "-", "--wait"); out.Code != 0 {
		t.Fatalf("apply --wait: exit %d %s", out.Code, out.Stderr)
	}
	want := c.Apply(limitless)
	if s, err := g.State(); err != nil || s.Revision != want {
		t.Errorf("after apply --wait the gateway is at %d (%v), want %d", s.Revision, err, want)
	}
	begun := time.Now()
	out := c.CLI(limitless, "apply", "-f", "-", "--wait", "--min-gateways", "2", "--timeout", "2s")
	if out.Code != 1 || !strings.Contains(out.Stderr, "1") || time.Since(begun) > 15*time.Second {
		t.Errorf("apply --wait for two gateways with one: exit %d after %v: %s", out.Code, time.Since(begun), out.Stderr)
	}

	get := func(key string) int {
		code, _ := g.Get(t, "hello.test", "/", "X-API-Key", key)
		return code
	}
	key := strings.TrimSpace(c.MustCLI("", "credential", "generate", "alice", "made-1"))
	testkit.Await(t, 10*time.Second, statusIs(get, key, http.StatusOK))
	next := strings.TrimSpace(c.MustCLI("", "credential", "rotate", "alice", "made-1", "--overlap", "4s"))
	rotated := time.Now()
	testkit.Await(t, 4*time.Second, statusIs(get, next, http.StatusOK))
	if code := get(key); code != http.StatusOK && time.Since(rotated) < 3*time.Second {
		t.Errorf("the old key within the overlap: %d", code)
	}
	testkit.Await(t, 10*time.Second, statusIs(get, key, http.StatusUnauthorized))
	if took := time.Since(rotated); took < 3*time.Second {
		t.Errorf("the old key ended after %v, want 4s", took)
	}
	if code := get(next); code != http.StatusOK {
		t.Errorf("the new key after the overlap: %d", code)
	}
	if out := c.MustCLI("", "get", "credentials", "alice/"); !strings.Contains(out, "made-2") || strings.Contains(out, next) {
		t.Errorf("get credentials: %s", out)
	}
	early := strings.TrimSpace(c.MustCLI("", "credential", "generate", "alice", "later", "--not-before", "3s"))
	if code := get(early); code != http.StatusUnauthorized {
		t.Errorf("a key before its time: %d", code)
	}
	testkit.Await(t, 10*time.Second, statusIs(get, early, http.StatusOK))

	id := c.Gateways("default")[0].ID
	if out := c.MustCLI("", "gateways", "list"); !strings.Contains(out, id) || !strings.Contains(out, "online") {
		t.Errorf("gateways list: %s", out)
	}
	if out := c.MustCLI("", "gateways", "describe", id); !strings.Contains(out, "key-auth") {
		t.Errorf("gateways describe: %s", out)
	}
	if out := c.CLI("", "gateways", "describe", "none"); out.Code != 3 {
		t.Errorf("gateways describe none: exit %d", out.Code)
	}
	g.Stop(10 * time.Second)
	testkit.Await(t, 10*time.Second, func() error {
		out := c.MustCLI("", "gateways", "list")
		if !strings.Contains(out, "offline") {
			return errText(out)
		}
		return nil
	})
}

type errText string

// Error is the text.
func (e errText) Error() string { return string(e) }

func statusIs(get func(string) int, key string, want int) func() error {
	return func() error {
		if code := get(key); code != want {
			return errText(http.StatusText(code))
		}
		return nil
	}
}
