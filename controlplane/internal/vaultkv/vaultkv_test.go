package vaultkv_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/vaultkv"
)

func lookup(name string) (string, bool) { return "the-token", name == "TOKEN" }

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"a field", "https://v.test/kv/db?token-env=TOKEN#url", ""},
		{"a deep mount", "https://v.test/team/kv/db?token-env=TOKEN&mount=team/kv&kv=1#url", ""},
		{"no field", "https://v.test/kv/db?token-env=TOKEN", "is not of the form"},
		{"an empty field", "https://v.test/kv/db?token-env=TOKEN#", "is not of the form"},
		{"a field that is a path", "https://v.test/kv/db?token-env=TOKEN#a/b", "is not of the form"},
		{"no secret", "https://v.test/kv?token-env=TOKEN#url", "below the mount"},
		{"another mount", "https://v.test/kv/db?token-env=TOKEN&mount=other#url", "below the mount"},
		{"a detour", "https://v.test/kv/../sys/db?token-env=TOKEN#url", "is not of the form"},
		{"another version", "https://v.test/kv/db?token-env=TOKEN&kv=3#url", "kv must be"},
		{"an unknown parameter", "https://v.test/kv/db?token-env=TOKEN&color=red#url", `no parameter "color"`},
		{"in the clear", "http://v.test/kv/db?token-env=TOKEN#url", "https"},
		{"no way to log in", "https://v.test/kv/db#url", "token"},
		{"a password", "https://user:canary@v.test/kv/db#url", "is not of the form"},
	} {
		_, err := vaultkv.Open(tt.text, lookup)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestRead has a stand-in for Vault, which answers what it is told; the real one is asked by the tests of package app.
func TestRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, kv, path string
		status         int
		body           string
		want           string
		down           bool
	}{
		{name: "version 1", kv: "1", path: "/v1/kv/db", status: 200, body: `{"data":{"url":"canary"}}`, want: "canary"},
		{name: "version 2", kv: "2", path: "/v1/kv/data/db", status: 200, body: `{"data":{"data":{"url":"canary"}}}`, want: "canary"},
		{name: "nested, read as version 1", kv: "1", path: "/v1/kv/db", status: 200, body: `{"data":{"data":{"url":"canary"}}}`},
		{name: "another field", kv: "1", path: "/v1/kv/db", status: 200, body: `{"data":{"other":"canary"}}`},
		{name: "empty", kv: "1", path: "/v1/kv/db", status: 200, body: `{"data":{"url":""}}`},
		{name: "deleted", kv: "2", path: "/v1/kv/data/db", status: 404, body: `{"data":{"data":null}}`},
		{name: "forbidden", kv: "1", path: "/v1/kv/db", status: 403, body: `{"errors":["permission denied"]}`},
		{name: "sealed", kv: "1", path: "/v1/kv/db", status: 503, body: `{"errors":["Vault is sealed"]}`, down: true},
		{name: "in trouble", kv: "1", path: "/v1/kv/db", status: 502, body: ``, down: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/auth/token/lookup-self" {
					_, _ = w.Write([]byte(`{"data":{"ttl":3600,"renewable":false}}`))
					return
				}
				if r.URL.Path != tt.path || r.Header.Get("X-Vault-Token") != "the-token" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			s, err := vaultkv.Open(server.URL+"/kv/db?token-env=TOKEN&kv="+tt.kv+"#url", lookup)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Read(t.Context())
			if got != tt.want || (err == nil) != (tt.want != "") || errors.Is(err, vaultkv.ErrDown) != tt.down {
				t.Errorf("Read() = %q, %v", got, err)
			}
			if err != nil && (strings.Contains(err.Error(), "canary") || !strings.HasPrefix(err.Error(), "vault:kv/db#url: ")) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	f.Add("https://v.test/kv/db?token-env=TOKEN&kv=2&mount=kv#url")
	f.Add("http://127.0.0.1:1/a/b/c?token-env=TOKEN&mount=a/b&kv=1#x")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := vaultkv.Open(text, lookup); err == nil && s == nil {
			t.Errorf("Open(%q) = nothing and no error", text)
		}
	})
}
