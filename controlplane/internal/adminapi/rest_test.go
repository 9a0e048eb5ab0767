package adminapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/store"
)

// answer is what came back over REST.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) json(t *testing.T) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatalf("answer %d is no JSON: %v\n%s", a.status, err, a.body)
	}
	return out
}

// call sends a request; headers are written "Name: value".
func (a *api) call(method, path, token, body string, headers ...string) *answer {
	a.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, r)
	if err != nil {
		a.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return &answer{resp.StatusCode, resp.Header, data}
}

func (a *api) get(path string) *answer { return a.call(http.MethodGet, path, "", "") }

func (a *api) admin() string { return a.token("*", optionsv1.Role_ROLE_ADMIN) }

func TestLifeOfAResource(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	const path = "/v1/groups/a/services/s"
	steps := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		etag, revision           string
	}{
		{"absent", "GET", path, "", nil, 404, "", ""},
		{"created", "PUT", path, `{"url": "http://10.0.0.1"}`, nil, 201, `"1"`, "1"},
		{"read", "GET", path, "", nil, 200, `"1"`, "1"},
		{"head", "HEAD", path, "", nil, 200, `"1"`, "1"},
		{"not modified", "GET", path, "", []string{`If-None-Match: "1"`}, 304, `"1"`, "1"},
		{"the same again", "PUT", path, `{"url": "http://10.0.0.1"}`, nil, 200, `"1"`, "1"},
		{"create only", "PUT", path, `{"url": "http://10.0.0.2"}`, []string{"If-None-Match: *"}, 412, "", ""},
		{"changed", "PUT", path, `{"url": "http://10.0.0.2"}`, []string{`If-Match: "1"`}, 200, `"2"`, "2"},
		{"lost", "PUT", path, `{"url": "http://10.0.0.3"}`, []string{`If-Match: "1"`}, 412, "", ""},
		{"bad tag", "PUT", path, `{"url": "http://10.0.0.3"}`, []string{`If-Match: 1`}, 400, "", ""},
		{"dry run", "PUT", path + "?dry_run=true", `{"url": "http://10.0.0.3"}`, nil, 200, `"3"`, "2"},
		{"patched", "PATCH", path, `{"labels": {"team": "x"}}`, []string{"Content-Type: application/merge-patch+json"}, 200, `"3"`, "3"},
		{"patched nothing", "PATCH", path, `{}`, []string{"Content-Type: application/merge-patch+json"}, 200, `"3"`, "3"},
		{"patch as JSON", "PATCH", path, `{}`, nil, 415, "", ""},
		{"patch lost", "PATCH", path, `{}`, []string{"Content-Type: application/merge-patch+json", `If-Match: "2"`}, 412, "", ""},
		{"delete lost", "DELETE", path, "", []string{`If-Match: "2"`}, 412, "", ""},
		{"deleted", "DELETE", path, "", []string{`If-Match: "3"`}, 204, "", "4"},
		{"gone", "GET", path, "", nil, 404, "", ""},
		{"deleted again", "DELETE", path, "", nil, 404, "", ""},
		{"yaml", "PUT", path, "url: http://10.0.0.1\nlabels: {team: x}\n", []string{"Content-Type: application/yaml"}, 201, `"5"`, "5"},
	}
	for _, s := range steps {
		got := a.call(s.method, s.path, admin, s.body, s.headers...)
		if got.status != s.status || got.header.Get("ETag") != s.etag || (s.revision != "" && got.header.Get("Keyward-Revision") != s.revision) {
			t.Fatalf("%s: %d, ETag %s, revision %s, want %d, %s, %s\n%s", s.name, got.status, got.header.Get("ETag"),
				got.header.Get("Keyward-Revision"), s.status, s.etag, s.revision, got.body)
		}
		if got.header.Get("Cache-Control") != "no-store" || got.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", s.name, got.header)
		}
	}
	doc := a.call("GET", path, admin, "").json(t)
	if doc["name"] != "s" || doc["etag"] != "5" || doc["timeouts"] == nil {
		t.Errorf("resource = %v, want it normalised, with name and etag", doc)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	big := `{"description": "` + strings.Repeat("x", 3<<20) + `"}`
	for _, tc := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     problem.Code
		paths                    []string
	}{
		{"unknown path", "GET", "/nothing", "", nil, 404, problem.NotFound, nil},
		{"unknown kind", "GET", "/v1/groups/a/gadgets", "", nil, 404, problem.NotFound, nil},
		{"unknown group", "GET", "/v1/groups/z/services", "", nil, 404, problem.NotFound, nil},
		{"escaped slash", "GET", "/v1/groups/a/services/x%2Fy", "", nil, 404, problem.NotFound, nil},
		{"method", "POST", "/v1/groups/a/services/s", "{}", nil, 405, problem.Malformed, nil},
		{"no content type", "PUT", "/v1/groups/a/services/s", "{}", []string{"Content-Type: text/plain"}, 415, problem.UnsupportedMediaType, nil},
		{"compressed", "PUT", "/v1/groups/a/services/s", "{}", []string{"Content-Encoding: gzip"}, 415, problem.UnsupportedMediaType, nil},
		{"latin-1", "PUT", "/v1/groups/a/services/s", "{}", []string{"Content-Type: application/json; charset=latin1"}, 415, problem.UnsupportedMediaType, nil},
		{"too large", "PUT", "/v1/groups/a/services/s", big, nil, 413, problem.TooLarge, nil},
		{"not JSON", "PUT", "/v1/groups/a/services/s", "{", nil, 400, problem.Malformed, []string{""}},
		{"all violations", "PUT", "/v1/groups/a/services/s", `{"url": 5, "retry": 1, "timeouts": {"connect": 5}, "name": "t"}`, nil, 422, problem.Invalid, []string{"name", "retry", "timeouts.connect", "url"}},
		{"twice", "PUT", "/v1/groups/a/services/s", `{"url": "http://h", "url": "http://h"}`, nil, 422, problem.Invalid, []string{"url"}},
		{"bad query", "GET", "/v1/groups/a/services?page_size=x&Selector=y", "", nil, 400, problem.Malformed, []string{"Selector"}},
		{"bad number", "GET", "/v1/groups/a/services?page_size=x", "", nil, 422, problem.Invalid, []string{"page_size"}},
		{"mistyped dry run", "PUT", "/v1/groups/a/services/s?dryrun=true", `{"url": "http://h"}`, nil, 400, problem.Malformed, []string{"dryrun"}},
		{"query twice", "GET", "/v1/groups/a/services?page_size=1&page_size=2", "", nil, 400, problem.Malformed, []string{"page_size"}},
		{"bad token", "GET", "/v1/groups/a/services?page_token=x", "", nil, 400, problem.Malformed, []string{"page_token"}},
		{"body on GET", "GET", "/v1/groups/a/services", "{}", nil, 400, problem.Malformed, nil},
		{"owner missing", "GET", "/v1/groups/a/consumers/nobody/credentials", "", nil, 404, problem.NotFound, nil},
		{"camelCase", "POST", "/v1/groups/a/join-tokens", `{"Uses": 1, "ttl": 5}`, nil, 422, problem.Invalid, []string{"Uses", "ttl"}},
		{"body disagrees with path", "POST", "/v1/groups/a/join-tokens", `{"group": "b"}`, nil, 422, problem.Invalid, []string{"group"}},
		{"number in path", "GET", "/v1/groups/a/revisions/x:wait", "", nil, 404, problem.NotFound, nil},
		{"group name", "POST", "/v1/groups", `{"name": "system"}`, nil, 422, problem.Invalid, []string{"name"}},
		{"group exists", "POST", "/v1/groups", `{"name": "a"}`, nil, 409, problem.Conflict, nil},
		{"settings stay", "DELETE", "/v1/groups/a/settings", "", nil, 405, problem.Malformed, nil},
	} {
		got := a.call(tc.method, tc.path, admin, tc.body, tc.headers...)
		p, err := problem.Parse(got.body)
		if err != nil || got.header.Get("Content-Type") != problem.ContentType {
			t.Errorf("%s: %d %s is no problem\n%s", tc.name, got.status, got.header.Get("Content-Type"), got.body)
			continue
		}
		var paths []string
		for _, v := range p.Violations {
			paths = append(paths, v.Path)
		}
		if got.status != tc.status || p.Code != tc.code || !cmp.Equal(paths, tc.paths) {
			t.Errorf("%s: %d %s %q, want %d %s %q\n%s", tc.name, got.status, p.Code, paths, tc.status, tc.code, tc.paths, got.body)
		}
	}
	if allow := a.call("POST", "/v1/groups/a/services/s", admin, "{}").header.Get("Allow"); allow != "DELETE, GET, HEAD, PATCH, PUT" {
		t.Errorf("Allow: %s", allow)
	}
}

func TestOutagesAnswer503(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	a.call("PUT", "/v1/groups/a/services/s", admin, `{"url": "http://h"}`)
	a.call("GET", "/v1/groups", admin, "")
	a.down = fmt.Errorf("read: %w: %w", store.ErrUnavailable, errors.New("dial tcp 10.9.8.7: secret text"))
	for _, path := range []string{"/v1/groups/a/services/s", "/v1/groups/a/services", "/v1/groups/a:export", "/v1/groups"} {
		if got := a.call("GET", path, admin, ""); got.status != 200 {
			t.Errorf("GET %s: %d, want 200 from memory", path, got.status)
		}
	}
	got := a.call("PUT", "/v1/groups/a/services/s", admin, `{"url": "http://i"}`)
	if got.status != 503 || got.header.Get("Retry-After") == "" || bytes.Contains(got.body, []byte("secret text")) {
		t.Errorf("PUT: %d, Retry-After %q\n%s", got.status, got.header.Get("Retry-After"), got.body)
	}
}

func TestListPagesAndSelects(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	for i := range 7 {
		body := fmt.Sprintf(`{"url": "http://h", "labels": {"n": "%d", "odd": "%d"}}`, i, i%2)
		if got := a.call("PUT", fmt.Sprintf("/v1/groups/a/services/s%d", i), admin, body); got.status != 201 {
			t.Fatalf("PUT: %d %s", got.status, got.body)
		}
	}
	var names []string
	query := "?page_size=2&selector=odd%3D0"
	for pages := 0; query != "" && pages < 10; pages++ {
		page := a.call("GET", "/v1/groups/a/services"+query, admin, "").json(t)
		for _, r := range page["resources"].([]any) {
			names = append(names, r.(map[string]any)["name"].(string))
		}
		query = ""
		if token, ok := page["next_page_token"].(string); ok {
			query = "?page_size=2&selector=odd%3D0&page_token=" + token
		}
	}
	if diff := cmp.Diff([]string{"s0", "s2", "s4", "s6"}, names); diff != "" {
		t.Errorf("names (-want +got)\n%s", diff)
	}
	page := a.call("GET", "/v1/groups/a/services?page_size=2", admin, "").json(t)
	token, _ := page["next_page_token"].(string)
	if got := a.call("GET", "/v1/groups/a/routes?page_token="+token, admin, ""); got.status != 400 {
		t.Errorf("token of another list: %d, want 400", got.status)
	}
}

func TestSecretsAreNeverReadBack(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	const canary = "canary-0123456789-canary"
	a.call("PUT", "/v1/groups/a/consumers/alice", admin, `{"groups": "gold"}`)
	path := "/v1/groups/a/consumers/alice/credentials/one"
	created := a.call("PUT", path, admin, `{"type": "key-auth", "config": {"key": "`+canary+`"}}`)
	if created.status != 201 {
		t.Fatalf("PUT: %d %s", created.status, created.body)
	}
	generated := a.call("POST", "/v1/groups/a/consumers/alice/credentials/two:generate", admin, `{"type": "key-auth"}`)
	secret, _ := generated.json(t)["secret"].(string)
	if generated.status != 200 || len(secret) != 44 || !strings.HasPrefix(secret, "kwk_") {
		t.Fatalf("generate: %d %s", generated.status, generated.body)
	}
	rotated := a.call("POST", "/v1/groups/a/consumers/alice/credentials/two:rotate", admin, `{"overlap_seconds": 60}`)
	successor, _ := rotated.json(t)["resource"].(map[string]any)
	if rotated.status != 200 || successor["name"] != "two-2" {
		t.Fatalf("rotate: %d %s", rotated.status, rotated.body)
	}
	old := a.call("GET", "/v1/groups/a/consumers/alice/credentials/two", admin, "").json(t)
	if old["expires"] == nil {
		t.Errorf("the rotated credential has no end: %v", old)
	}
	for _, read := range []string{path, "/v1/groups/a/consumers/alice/credentials", "/v1/groups/a:export", path + "-2"} {
		got := a.call("GET", read, admin, "")
		for _, s := range []string{canary, secret, "hash of", "keyed_hash"} {
			if bytes.Contains(got.body, []byte(s)) {
				t.Errorf("GET %s shows %q", read, s)
			}
		}
	}
	if got := a.call("GET", path, admin, "").json(t)["config"]; !cmp.Equal(got, map[string]any{"allow_weak": false, "key": map[string]any{"set": true}}) &&
		!cmp.Equal(got, map[string]any{"key": map[string]any{"set": true}}) {
		t.Errorf("config = %v", got)
	}
}

func TestApplyAndExport(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	const doc = `group: a
services:
  - name: hello
    url: http://127.0.0.1:9000
routes:
  - name: hello
    service: hello
    hosts: ["hello.test"]
    paths: ["/"]
    policies:
      - {type: key-auth, config: {header: X-API-Key}}
`
	yaml := "Content-Type: application/yaml"
	dry := a.call("POST", "/v1/groups/a:apply?dry_run=true", admin, doc, yaml).json(t)
	if changes, _ := dry["changes"].([]any); len(changes) != 2 || changes[0].(map[string]any)["after"] == nil {
		t.Errorf("dry run = %v", dry)
	}
	got := a.call("POST", "/v1/groups/a:apply", admin, doc, yaml)
	if got.status != 200 || got.json(t)["revision"] != 1.0 {
		t.Fatalf("apply: %d %s", got.status, got.body)
	}
	exported := a.call("GET", "/v1/groups/a:export", admin, "")
	if exported.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("export: %s", exported.header.Get("Content-Type"))
	}
	again := a.call("POST", "/v1/groups/a:apply", admin, string(exported.body), yaml).json(t)
	if again["changed"] != false || again["revision"] != 1.0 {
		t.Errorf("export | apply = %v, want nothing changed\n%s", again, exported.body)
	}
	inJSON := a.call("GET", "/v1/groups/a:export", admin, "", "Accept: application/json")
	if inJSON.json(t)["group"] != "a" {
		t.Errorf("export as JSON: %s", inJSON.body)
	}
	explained := a.call("GET", "/v1/groups/a/routes/hello:explain", admin, "").json(t)
	if chain, _ := explained["chain"].([]any); len(chain) != 1 || chain[0].(map[string]any)["phase"] != "authn" {
		t.Errorf("explain = %v", explained)
	}
	tested := a.call("POST", "/v1/groups/a:test-route", admin, `{"method": "GET", "url": "https://hello.test/x"}`).json(t)
	if tested["route"] != "hello" || tested["status"] != 0.0 {
		t.Errorf("test-route = %v", tested)
	}
	revisions := a.call("GET", "/v1/groups/a/revisions", admin, "").json(t)
	if list, _ := revisions["revisions"].([]any); len(list) != 1 {
		t.Errorf("revisions = %v", revisions)
	}
}

func TestApplyTellsEveryViolationWithItsPlace(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.violate = problem.Violated([]problem.Violation{
		{Path: "routes[0].service", Reason: "there is no service nowhere"},
	})
	doc := "group: b\nservices:\n  - name: s\n    url: 5\nroutes:\n  - name: r\n    service: nowhere\n"
	got := a.call("POST", "/v1/groups/a:apply", a.admin(), doc, "Content-Type: application/yaml")
	p, err := problem.Parse(got.body)
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	for _, v := range p.Violations {
		places = append(places, fmt.Sprintf("%s %s %d", v.Path, v.Resource, v.Line))
	}
	want := []string{"group  1", "routes[0].service routes/r 7", "services[0].url services/s 4"}
	if diff := cmp.Diff(want, places); diff != "" || got.status != 422 {
		t.Errorf("%d (-want +got)\n%s", got.status, diff)
	}
}

func TestNobodyGrantsMoreThanTheyHave(t *testing.T) {
	t.Parallel()
	a := serve(t)
	for _, tc := range []struct {
		name, token, body string
		status            int
	}{
		{"all to all", a.admin(), `{"name": "x", "grants": [{"group": "*", "role": "admin"}]}`, 200},
		{"viewer of one", a.admin(), `{"name": "x", "grants": [{"group": "a", "role": "viewer"}], "ttl": "1h"}`, 200},
		{"operator everywhere", a.token("*", optionsv1.Role_ROLE_OPERATOR), `{"name": "x", "grants": [{"group": "a", "role": "viewer"}]}`, 403},
		{"admin of one group", a.token("a", optionsv1.Role_ROLE_ADMIN), `{"name": "x", "grants": [{"group": "a", "role": "viewer"}]}`, 403},
		{"no role", a.admin(), `{"name": "x", "grants": [{"group": "a", "role": "root"}]}`, 422},
		{"nothing", a.admin(), `{"name": "x"}`, 422},
	} {
		got := a.call("POST", "/v1/admin-tokens", tc.token, tc.body)
		if got.status != tc.status {
			t.Errorf("%s: %d, want %d\n%s", tc.name, got.status, tc.status, got.body)
		}
	}
}

func TestTokensWorkUntilDeleted(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	made := a.call("POST", "/v1/admin-tokens", admin, `{"name": "ci", "grants": [{"group": "a", "role": "viewer"}]}`).json(t)
	secret, _ := made["secret"].(string)
	id, _ := made["token"].(map[string]any)["id"].(string)
	me := a.call("GET", "/v1/whoami", secret, "").json(t)
	if me["name"] != "ci" {
		t.Errorf("whoami = %v", me)
	}
	groups, _ := a.call("GET", "/v1/groups", secret, "").json(t)["groups"].([]any)
	if len(groups) != 1 {
		t.Errorf("groups = %v, want only the one the token is for", groups)
	}
	if list := a.call("GET", "/v1/admin-tokens", admin, ""); list.status != 200 || bytes.Contains(list.body, []byte(secret[17:])) {
		t.Errorf("list: %d %s", list.status, list.body)
	}
	if got := a.call("DELETE", "/v1/admin-tokens/"+id, admin, ""); got.status != 200 {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
	gone := a.call("GET", "/v1/whoami", secret, "")
	if gone.status != 401 || !strings.HasPrefix(gone.header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("deleted token: %d, WWW-Authenticate %q", gone.status, gone.header.Get("WWW-Authenticate"))
	}
}

func TestBodiesOfStrangersAreNotRead(t *testing.T) {
	t.Parallel()
	a := serve(t)
	for _, tc := range []struct{ method, path, contentType string }{
		{"PUT", "/v1/groups/a/services/s", "text/plain"},
		{"PUT", "/v1/groups/a/services/s", "application/json"},
		{"PATCH", "/v1/groups/a/services/s", "application/merge-patch+json"},
		{"POST", "/v1/groups/a:apply", "application/yaml"},
		{"POST", "/v1/admin-tokens", "application/json"},
	} {
		if got := a.call(tc.method, tc.path, "", "{ no document", "Content-Type: "+tc.contentType); got.status != 401 {
			t.Errorf("%s %s: %d, want 401\n%s", tc.method, tc.path, got.status, got.body)
		}
	}
}
