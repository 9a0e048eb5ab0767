package telemetry

import (
	"io"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check says what keeps a process from being live or ready; nil means nothing does. Its message is shown to whoever can
// reach the status port, so it names no contents of any configuration.
type Check func() error

// StatusHandler serves /livez, /readyz and /metrics. A nil check always passes.
//
// Liveness must fail only for what a restart would cure; readiness for everything that keeps requests from being served.
func StatusHandler(reg *prometheus.Registry, live, ready Check) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /livez", checkHandler(live))
	mux.Handle("GET /readyz", checkHandler(ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	return mux
}

func checkHandler(check Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		answer := "ok\n"
		if check != nil {
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				answer = strings.TrimSpace(err.Error()) + "\n"
			}
		}
		_, _ = io.WriteString(w, answer)
	})
}
