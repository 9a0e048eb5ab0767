package egress_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/egress"
)

// TestFetching calls a server on this machine, also by a name of it.
func TestFetching(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write([]byte(r.Method + " " + string(body)))
	}))
	t.Cleanup(s.Close)
	fetcher := func(allowed ...string) *egress.Fetcher {
		rules, err := egress.New(allowed, egress.Interfaces)
		if err != nil {
			t.Fatal(err)
		}
		return rules.Fetcher()
	}
	here, nowhere := fetcher("127.0.0.0/8", "::1/128"), fetcher()
	byName := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	for _, tt := range []struct {
		name  string
		by    *egress.Fetcher
		url   string
		limit int64
		want  string
	}{
		{"allowed", here, s.URL, 100, "GET "},
		{"too much", here, s.URL, 3, "it has more than 3 bytes"},
		{"elsewhere", here, s.URL + "/elsewhere", 100, "it answers 302"},
		{"denied", nowhere, s.URL, 100, egress.ErrDenied.Error()},
		{"denied by name", nowhere, byName, 100, egress.ErrDenied.Error()},
	} {
		got, err := tt.by.Get(t.Context(), tt.url, tt.limit)
		told := string(got)
		if err != nil {
			told = err.Error()
		}
		if !strings.Contains(told, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, told, tt.want)
		}
	}
	if got, err := here.Post(t.Context(), s.URL, "text/plain", []byte("this"), 100); err != nil || string(got) != "POST this" {
		t.Errorf("%q, %v", got, err)
	}
}
