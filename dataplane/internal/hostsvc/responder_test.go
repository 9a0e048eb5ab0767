package hostsvc_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/hostsvc"
)

func TestAskResponder(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/elsewhere":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request":
			w.WriteHeader(http.StatusBadRequest)
		default:
			_, _ = w.Write([]byte("you asked " + string(body)))
		}
	}))
	t.Cleanup(s.Close)
	rules := func(deny ...string) *hostsvc.EgressRules {
		r, err := hostsvc.NewEgressRules(nil, deny)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		name, url string
		rules     *hostsvc.EgressRules
		limit     int64
		want      string // the answer, or what is wrong
	}{
		{"answered", s.URL, rules(), 100, "you asked this"},
		{"at the limit", s.URL, rules(), 14, "you asked this"},
		{"beyond it", s.URL, rules(), 13, "it has more than 13 bytes"},
		{"elsewhere", s.URL + "/elsewhere", rules(), 100, "it answers 307"},
		{"denied", s.URL, rules("127.0.0.0/8", "::1/128"), 100, hostsvc.ErrDenied.Error()},
	} {
		got, err := hostsvc.AskResponder(t.Context(), tt.rules, tt.url, []byte("this"), tt.limit)
		if told := string(got) + errorText(err); !strings.Contains(told, tt.want) || err != nil && got != nil {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	if _, err := hostsvc.AskResponder(t.Context(), rules("127.0.0.0/8"), s.URL, nil, 1); !errors.Is(err, hostsvc.ErrDenied) {
		t.Errorf("denied: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
