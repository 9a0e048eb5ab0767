package adminapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/configsvc"
)

// withHistory makes a service (revision 1), a consumer (2), its key (3), another key and another address (4, 5).
func withHistory(t *testing.T) (*api, string) {
	t.Helper()
	a := serve(t)
	operator := a.token("a", optionsv1.Role_ROLE_OPERATOR)
	for _, put := range [][2]string{
		{"services/s", `{"url":"http://a:1"}`},
		{"consumers/c", `{}`},
		{"consumers/c/credentials/k", `{"type":"key-auth","config":{"key":"old-plaintext"}}`},
		{"consumers/c/credentials/k", `{"type":"key-auth","config":{"key":"new-plaintext"}}`},
		{"services/s", `{"url":"http://b:1"}`},
	} {
		if res := a.call(http.MethodPut, "/v1/groups/a/"+put[0], operator, put[1]); res.status/100 != 2 {
			t.Fatalf("put %s: %d %s", put[0], res.status, res.body)
		}
	}
	return a, operator
}

// brief lists the changes of an answer as "action kind/name".
func brief(t *testing.T, res *answer) []string {
	t.Helper()
	var out []string
	list, _ := res.json(t)["changes"].([]any)
	for _, c := range list {
		c, _ := c.(map[string]any)
		action, _ := c["action"].(string)
		kind, _ := c["kind"].(string)
		name, _ := c["name"].(string)
		out = append(out, action+" "+kind+"/"+name)
	}
	return out
}

func TestHistoryShowsChangesWithoutSecrets(t *testing.T) {
	t.Parallel()
	a, _ := withHistory(t)
	viewer := a.token("a", optionsv1.Role_ROLE_VIEWER)
	for _, tt := range []struct {
		path string
		want []string
		text string
	}{
		{"/revisions/1", []string{"create services/s"}, `"http://a:1"`},
		{"/revisions/3", []string{"create credentials/c/k"}, `"set":true`},
		{"/revisions/4", []string{"update credentials/c/k"}, `"set":true`},
		{"/revisions/5", []string{"update services/s"}, `"http://b:1"`},
		{":diff?from=2&to=4", []string{"create credentials/c/k"}, `"to":4`},
		{":diff?from=2", []string{"create credentials/c/k", "update services/s"}, `"to":5`},
		{":diff?from=5&to=2", []string{"delete credentials/c/k", "update services/s"}, `"to":2`},
		{":diff?from=3&to=3", nil, `"from":3`},
	} {
		res := a.call(http.MethodGet, "/v1/groups/a"+tt.path, viewer, "")
		if res.status != http.StatusOK {
			t.Fatalf("%s: %d %s", tt.path, res.status, res.body)
		}
		if diff := cmp.Diff(tt.want, brief(t, res)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.path, diff)
		}
		text := strings.ReplaceAll(string(res.body), `": `, `":`)
		if !strings.Contains(text, tt.text) {
			t.Errorf("%s answers %s, without %s", tt.path, text, tt.text)
		}
		for _, secret := range []string{"plaintext", "hash of", "keyed_hash", "aGFzaCBvZi"} { // the last is "hash of" in base64
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %q: %s", tt.path, secret, text)
			}
		}
	}
}

func TestHistoryRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	a, operator := withHistory(t)
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{http.MethodGet, "/revisions/9", "", http.StatusNotFound},
		{http.MethodGet, "/revisions/0", "", http.StatusUnprocessableEntity},
		{http.MethodGet, "/revisions/x", "", http.StatusNotFound},
		{http.MethodGet, ":diff", "", http.StatusUnprocessableEntity},
		{http.MethodGet, ":diff?from=1&to=-1", "", http.StatusUnprocessableEntity},
		{http.MethodGet, ":diff?from=1&to=9", "", http.StatusNotFound},
		{http.MethodPost, ":rollback", `{"to":9}`, http.StatusNotFound},
		{http.MethodPost, ":rollback", `{"to":1,"if_revision":-1}`, http.StatusUnprocessableEntity},
	} {
		res := a.call(tt.method, "/v1/groups/a"+tt.path, operator, tt.body)
		if res.status != tt.want {
			t.Errorf("%s %s %s: %d, want %d: %s", tt.method, tt.path, tt.body, res.status, tt.want, res.body)
		}
	}
}

func TestRollbackIsHandedOnAsTheCallers(t *testing.T) {
	t.Parallel()
	a, operator := withHistory(t)
	const path = "/v1/groups/a:rollback"
	dry := a.call(http.MethodPost, path, operator, `{"to":2,"if_revision":5,"dry_run":true}`)
	if dry.status != http.StatusOK || !strings.Contains(string(dry.body), `"before"`) || strings.Contains(string(dry.body), "keyed_hash") {
		t.Errorf("dry run: %d %s", dry.status, dry.body)
	}
	done := a.call(http.MethodPost, path, operator, `{"to":2,"include_credentials":true}`)
	if done.status != http.StatusOK || strings.Contains(string(done.body), `"before"`) {
		t.Errorf("rollback: %d %s", done.status, done.body)
	}
	if diff := cmp.Diff([]string{"delete credentials/c/k"}, brief(t, done)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	got := done.json(t)
	if got["revision"] != 6.0 || got["to"] != 2.0 || got["credentials_left"] != 2.0 || got["changed"] != true {
		t.Errorf("answer: %v", got)
	}
	want := []configsvc.RollbackRequest{
		{Actor: "tester", Group: "a", To: 2, IfRevision: 5, DryRun: true},
		{Actor: "tester", Group: "a", To: 2, Credentials: true},
	}
	if diff := cmp.Diff(want, a.backs); diff != "" {
		t.Errorf("asked of the write path (-want +got):\n%s", diff)
	}
}
