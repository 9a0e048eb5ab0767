package scenario_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

// TestKeysInBodies applies the example of the policy's page, and has keys come in bodies of all sorts.
func TestKeysInBodies(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%d %s", r.ContentLength, body[:min(len(body), 40)])
	}))
	t.Cleanup(up.Close)
	c := harness.New(t, harness.Options{})
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(strings.ReplaceAll(example(t, "key-auth"), "127.0.0.1:9000", up.Listener.Addr().String())))
	const form, object, key = "application/x-www-form-urlencoded", "application/json", "Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"
	long := strings.Repeat("x", 1<<20-100)
	for _, tt := range []struct {
		name, contentType, body string
		fields                  []string
		status                  int
		want                    string
	}{
		{"in a form", form, "a=1&api_key=" + key + "&b=2", nil, 200, "7 a=1&b=2"},
		{"in JSON", object, `{"api_key":"` + key + `","a":[1]}`, nil, 200, `9 {"a":[1]}`},
		{"in long JSON", object, `{"a":"` + long + `","api_key":"` + key + `"}`, nil, 200, `1048484 {"a":"xxx`},
		{"in JSON that is too long", object, `{"a":"` + long + long + `"}`, []string{"X-API-Key", key}, 413, "body_too_large"},
		{"in JSON and a field", object, `{"api_key":"` + key + `"}`, []string{"X-API-Key", key}, 200, "2 {}"},
		{"another in a field", object, `{"api_key":"` + key + `"}`, []string{"X-API-Key", "another"}, 401, "more than one"},
		{"wrong", form, "api_key=wrong", nil, 401, "not valid"},
		{"none", form, "a=b", nil, 401, "needs an API key"},
		{"compressed", object, `{"api_key":"` + key + `"}`, []string{"Content-Encoding", "gzip"}, 415, "unsupported_body"},
		{"broken", object, `{"api_key":"` + key + `"`, nil, 400, "bad_body"},
		{"other types are not looked into", "text/plain", "api_key=wrong", []string{"X-API-Key", key}, 200, "13 api_key=wrong"},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%v", tt.name, chunked), func(t *testing.T) {
				var body io.Reader = strings.NewReader(tt.body)
				want := tt.want
				if chunked {
					body = io.NopCloser(body) // whose length is not known
				}
				if chunked && strings.HasPrefix(tt.name, "other") {
					want = "-1 api_key=wrong"
				}
				resp := g.Call(t, http.MethodPost, "orders.test", "/orders", body, append([]string{"Content-Type", tt.contentType}, tt.fields...)...)
				defer resp.Body.Close()
				got, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != tt.status || !strings.Contains(string(got), want) {
					t.Errorf("%d %s, want %d %s", resp.StatusCode, got, tt.status, want)
				}
			})
		}
	}
	if status, body := g.Do(t, http.MethodOptions, "orders.test", "/orders", "Origin", "https://app.test", "Access-Control-Request-Method", "POST"); status != http.StatusUnauthorized {
		t.Errorf("without cors a preflight is answered %d %s, want 401", status, body)
	}
}

// example returns the first example of a policy's page.
func example(t *testing.T, policy string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "policies", policy+".md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n```yaml\n")
	text, _, ends := strings.Cut(rest, "\n```\n")
	if !ok || !ends {
		t.Fatalf("docs/policies/%s.md has no example", policy)
	}
	return text
}
