package status_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/status"
)

func fixture() (*status.Status, *runtime.Holder, *prometheus.Registry, *bool) {
	reg := prometheus.NewRegistry()
	holder, draining := &runtime.Holder{}, new(bool)
	s := status.New(status.Config{
		Registry: reg, Runtime: holder, Version: "v1", Engine: "keyward", Draining: func() bool { return *draining },
		InFlight: func() int64 { return 3 }, Dropped: func() uint64 { return 2 }, Connections: func() int64 { return 4 },
		Handshakes: func() int64 { return 5 }, Refused: func() uint64 { return 6 }, Ambiguous: func() uint64 { return 9 }, BodyBytes: func() int64 { return 10 },
		Logins: []string{"jwt-auth", "key-auth"}, Authentication: authentication,
		MaxRoutes: 3, Log: slog.New(slog.DiscardHandler),
		ControlPlane:      func() status.ControlPlane { return status.ControlPlane{Connected: true, Refused: 7, Epochs: 3} },
		HandshakeFailures: func() map[string]uint64 { return map[string]uint64{"timeout": 8} },
		Responders:        revocation.NewCache(nil),
		File:              func() status.FileCertificate { return status.FileCertificate{ID: "f1", NotAfter: time.Unix(9000, 0)} },
	})
	return s, holder, reg, draining
}

func TestReadyOnlyWithARuntimeAndNotWhileDraining(t *testing.T) {
	t.Parallel()
	s, holder, _, draining := fixture()
	if s.Ready() == nil {
		t.Error("ready without a runtime")
	}
	rt, faults := compile.New(compile.Deps{Log: slog.New(slog.DiscardHandler)}).Build(state.Empty(), nil)
	holder.Store(rt)
	s.Applied(rt, faults, time.Unix(1000, 0))
	if err := s.Ready(); err != nil {
		t.Errorf("an empty group is not ready: %v", err)
	}
	*draining = true
	if s.Ready() == nil {
		t.Error("ready while draining")
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	s, holder, _, _ := fixture()
	rt, _ := compile.New(compile.Deps{Log: slog.New(slog.DiscardHandler)}).Build(state.Empty(), nil)
	holder.Store(rt)
	s.Applied(rt, []runtime.Fault{{Kind: "routes", UID: "u", Name: "r", Reason: "no"}}, time.Unix(1000, 0))
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "digest")
	want := map[string]any{
		"version": "v1", "ready": true, "epoch": "0", "revision": 0.0, "source": "control-plane", "applied_at": "1970-01-01T00:16:40Z",
		"control_plane": map[string]any{"connected": true, "refused_older": 7.0},
		"tls":           map[string]any{"certificates": []any{}, "file": map[string]any{"id": "f1", "not_after": "1970-01-01T02:30:00Z"}},
		"faults":        []any{map[string]any{"kind": "routes", "uid": "u", "name": "r", "reason": "no"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestReportSaysHowTheControlPlaneIsReached(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		is   status.ControlPlane
		want map[string]any
	}{
		"connected": {status.ControlPlane{Connected: true, Lost: time.Now()}, map[string]any{"connected": true}},
		"lost":      {status.ControlPlane{Lost: time.Now().Add(-90 * time.Second)}, map[string]any{"connected": false, "lost_seconds": 90.0}},
		"refusing": {
			status.ControlPlane{Connected: true, Refused: 2, Distrusted: true},
			map[string]any{"connected": true, "refused_older": 2.0, "distrusted": true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := status.New(status.Config{
				Registry: prometheus.NewRegistry(), Runtime: &runtime.Holder{}, Draining: func() bool { return false },
				ControlPlane: func() status.ControlPlane { return tt.is }, Log: slog.New(slog.DiscardHandler),
			})
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
			var got struct {
				ControlPlane map[string]any `json:"control_plane"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if age, ok := got.ControlPlane["lost_seconds"].(float64); ok && age > 90 && age < 120 {
				got.ControlPlane["lost_seconds"] = 90.0 // the test itself takes time
			}
			if diff := cmp.Diff(tt.want, got.ControlPlane); diff != "" {
				t.Errorf("control_plane (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReportSaysWhatTheSealedCacheIs(t *testing.T) {
	t.Parallel()
	confirmed := time.Now().Add(-90 * time.Second)
	for name, tt := range map[string]struct {
		cache  status.Cache
		source string
		want   map[string]any
	}{
		"serving": {
			status.Cache{Serving: true, Confirmed: confirmed},
			"sealed-cache",
			map[string]any{"confirmed_at": confirmed.UTC().Format(time.RFC3339Nano), "age_seconds": 90.0},
		},
		"refused, then live": {
			status.Cache{Refused: "too_old", WriteFailed: true},
			"control-plane",
			map[string]any{"refused": "too_old", "write_failed": true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holder := &runtime.Holder{}
			s := status.New(status.Config{
				Registry: prometheus.NewRegistry(), Runtime: holder, Draining: func() bool { return false },
				Cache: func() status.Cache { return tt.cache }, Log: slog.New(slog.DiscardHandler),
			})
			rt, _ := compile.New(compile.Deps{Log: slog.New(slog.DiscardHandler)}).Build(state.Empty(), nil)
			holder.Store(rt)
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
			var got struct {
				Source      string
				SealedCache map[string]any `json:"sealed_cache"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Source != tt.source {
				t.Errorf("source = %q, want %q", got.Source, tt.source)
			}
			if age, ok := got.SealedCache["age_seconds"].(float64); ok && age > 90 && age < 120 {
				got.SealedCache["age_seconds"] = 90.0 // the test itself takes time
			}
			if diff := cmp.Diff(tt.want, got.SealedCache); diff != "" {
				t.Errorf("sealed_cache (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s, _, reg, _ := fixture()
	x := &exchange.Exchange{Route: exchange.RouteInfo{Name: "r"}}
	x.Request.Proto = 11
	x.Timings.Received = time.Unix(1000, 0)
	x.Timings.Done = x.Timings.Received.Add(3 * time.Millisecond)
	s.Observe(x, accesslog.Outcome{Status: 204, BytesIn: 5, BytesOut: 7})
	s.Observe(x, accesslog.Outcome{Status: 404})
	x.Request.Proto = 0
	s.Observe(x, accesslog.Outcome{})
	s.Reported(x, &exchange.PolicyRef{Type: "acl", Name: "acl", OwnerKind: "routes", OwnerName: "r"}, nil)
	s.Panicked(x, nil, errors.New("boom"))
	if diff := cmp.Diff(map[string]uint64{"2xx": 1, "4xx": 1, "none": 1}, s.Responses()); diff != "" {
		t.Errorf("Responses() (-want +got):\n%s", diff)
	}
	want := map[string]string{
		"keyward_gateway_access_log_dropped_total":                                                  "2",
		"keyward_gateway_certificate_expires_timestamp_seconds,certificate=(file)":                  "9000",
		"keyward_gateway_tls_handshake_failures_total,reason=timeout":                               "8",
		"keyward_gateway_client_certificate_revocation_total,result=let_in":                         "0",
		"keyward_gateway_client_certificate_revocation_total,result=revoked":                        "0",
		"keyward_gateway_client_certificate_revocation_total,result=unchecked":                      "0",
		"keyward_gateway_ocsp_questions_total,result=failed":                                        "0",
		"keyward_gateway_ocsp_questions_total,result=ok":                                            "0",
		"keyward_gateway_config_apply_errors_total":                                                 "0",
		"keyward_gateway_config_distrusted":                                                         "0",
		"keyward_gateway_config_refused_older_total":                                                "7",
		"keyward_gateway_config_epoch_changes_total":                                                "3",
		"keyward_gateway_control_plane_connected":                                                   "1",
		"keyward_gateway_config_faults":                                                             "0",
		"keyward_gateway_config_last_success_timestamp_seconds":                                     "0",
		"keyward_gateway_config_generations":                                                        "0",
		"keyward_gateway_config_revision":                                                           "0",
		"keyward_gateway_connections":                                                               "4",
		"keyward_gateway_ambiguous_client_certificates_total":                                       "9",
		"keyward_gateway_body_memory_bytes":                                                         "10",
		"keyward_gateway_connections_refused_total":                                                 "6",
		"keyward_gateway_http_engine_info,engine=keyward":                                           "1",
		"keyward_gateway_policy_panics_total,policy=":                                               "1",
		"keyward_gateway_request_body_bytes_total":                                                  "5",
		"keyward_gateway_request_duration_seconds,class=2xx,route=r":                                "1",
		"keyward_gateway_request_duration_seconds,class=4xx,route=r":                                "1",
		"keyward_gateway_request_duration_seconds,class=none,route=r":                               "1",
		"keyward_gateway_requests_in_flight":                                                        "3",
		"keyward_gateway_requests_total,protocol=HTTP/1.0":                                          "0",
		"keyward_gateway_requests_total,protocol=HTTP/1.1":                                          "2",
		"keyward_gateway_requests_total,protocol=HTTP/2":                                            "0",
		"keyward_gateway_requests_total,protocol=other":                                             "1",
		"keyward_gateway_response_body_bytes_total":                                                 "7",
		"keyward_gateway_tls_handshakes_in_progress":                                                "5",
		"keyward_gateway_would_have_refused_total,binding=acl,owner=r,owner_kind=routes,policy=acl": "1",
	}
	maps.Copy(want, authenticationSeries())
	if diff := cmp.Diff(want, gathered(t, reg)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// gathered returns the value of every series, of a histogram how many it counted.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "," + l.GetName() + "=" + l.GetValue()
			}
			got[name] = fmt.Sprint(m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()))
		}
	}
	return got
}

func TestReportSaysWhatTheFallbackBundleIs(t *testing.T) {
	t.Parallel()
	issued := time.Now().Add(-90 * time.Second)
	for name, tt := range map[string]struct {
		bundle status.Fallback
		source string
		want   map[string]any
	}{
		"serving": {
			status.Fallback{Serving: true, Issued: issued},
			"fallback-bundle",
			map[string]any{"issued_at": issued.UTC().Format(time.RFC3339Nano), "age_seconds": 90.0},
		},
		"refused, then live": {status.Fallback{Refused: "expired"}, "control-plane", map[string]any{"refused": "expired"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holder := &runtime.Holder{}
			s := status.New(status.Config{
				Registry: prometheus.NewRegistry(), Runtime: holder, Draining: func() bool { return false },
				Fallback: func() status.Fallback { return tt.bundle }, Log: slog.New(slog.DiscardHandler),
			})
			rt, _ := compile.New(compile.Deps{Log: slog.New(slog.DiscardHandler)}).Build(state.Empty(), nil)
			holder.Store(rt)
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
			var got struct {
				Source   string
				Fallback map[string]any `json:"fallback_bundle"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Source != tt.source {
				t.Errorf("source = %q, want %q", got.Source, tt.source)
			}
			if age, ok := got.Fallback["age_seconds"].(float64); ok && age > 90 && age < 120 {
				got.Fallback["age_seconds"] = 90.0 // the test itself takes time
			}
			if diff := cmp.Diff(tt.want, got.Fallback); diff != "" {
				t.Errorf("fallback_bundle (-want +got):\n%s", diff)
			}
		})
	}
}
