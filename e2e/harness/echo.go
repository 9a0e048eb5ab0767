package harness

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Echoed is what an upstream got.
type Echoed struct {
	Method, Target, Host string
	Header               http.Header
	Body                 int
}

// Echo starts an upstream that answers with what it got, as JSON, and returns its address. A path that ends in /slow
// answers only when the caller has gone.
func Echo(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			select {
			case <-r.Context().Done():
			case <-time.After(30 * time.Second):
			}
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Access-Control-Allow-Origin", "https://upstream.test")
		_ = json.NewEncoder(w).Encode(Echoed{r.Method, r.RequestURI, r.Host, r.Header, int(n)})
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// ReadEcho decodes an echo.
func ReadEcho(t testing.TB, body string) Echoed {
	t.Helper()
	var e Echoed
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("not an echo: %q: %v", body, err)
	}
	return e
}
