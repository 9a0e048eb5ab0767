package status_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/status"
)

func TestSharedStoresAreReported(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := status.New(status.Config{
		Registry: reg, Runtime: &runtime.Holder{}, Log: slog.New(slog.DiscardHandler), Draining: func() bool { return false },
		Stores: func() []status.Store {
			return []status.Store{{Name: "b", DownSince: time.Unix(1e9, 0), First: 1, Again: 2, Failed: 3, Skipped: 4}, {Name: "a"}}
		},
	})
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	var got struct {
		Stores []map[string]any `json:"shared_stores"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{{"name": "a", "up": true}, {"name": "b", "up": false, "down_since": "2001-09-09T01:46:40Z"}}
	if diff := cmp.Diff(want, got.Stores); diff != "" {
		t.Errorf("stores (-want +got):\n%s", diff)
	}
	metrics := map[string]string{}
	for name, value := range gathered(t, reg) {
		if rest, ok := strings.CutPrefix(name, "keyward_gateway_shared_store_"); ok && !strings.Contains(rest, "store=a") {
			metrics[rest] = value
		}
	}
	if len(metrics) != 5 {
		t.Errorf("metrics: %v", metrics)
	}
	for name, value := range metrics {
		n := map[string]string{"up": "0", "first": "1", "again": "2", "failed": "3", "skipped": "4"}
		for word, want := range n {
			if strings.Contains(name, word) && value != want {
				t.Errorf("%s is %s, want %s", name, value, want)
			}
		}
	}
}
