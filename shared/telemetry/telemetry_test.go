package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keyward.dev/shared/telemetry"
)

func TestLogOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		args    []string
		want    string
		wantErr bool
	}{
		{name: "text above info by default", want: "level=info msg=shown component=test\n"},
		{name: "json at debug", args: []string{"--log-level=debug", "--log-format=json"}, want: `"level":"debug","msg":"detail","component":"test"}`},
		{name: "unknown level", args: []string{"--log-level=loud"}, wantErr: true},
		{name: "unknown format", args: []string{"--log-format=xml"}, wantErr: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var o telemetry.LogOptions
			fs := flag.NewFlagSet("test", flag.ContinueOnError)
			fs.SetOutput(io.Discard)
			o.Flags(fs)
			if err := fs.Parse(test.args); (err != nil) != test.wantErr {
				t.Fatalf("Parse() = %v, want error %t", err, test.wantErr)
			} else if err != nil {
				return
			}
			var out bytes.Buffer
			log := telemetry.NewLogger(&out, o, "test")
			log.Debug("detail")
			log.Info("shown")
			if !strings.Contains(out.String(), test.want) {
				t.Errorf("log = %q, want %q in it", out.String(), test.want)
			}
			if o.Level == slog.LevelInfo && strings.Contains(out.String(), "detail") {
				t.Errorf("log = %q shows a debug record", out.String())
			}
		})
	}
}

func TestStatusHandler(t *testing.T) {
	t.Parallel()
	h := telemetry.StatusHandler(telemetry.NewRegistry("test"), nil, func() error { return errors.New("no runtime yet") })
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/livez", http.StatusOK, "ok\n"},
		{"GET", "/readyz", http.StatusServiceUnavailable, "no runtime yet\n"},
		{"GET", "/metrics", http.StatusOK, "keyward_test_build_info{"},
		{"POST", "/livez", http.StatusMethodNotAllowed, ""},
		{"GET", "/", http.StatusNotFound, ""},
	} {
		t.Run(test.method+test.path, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), test.method, test.path, nil))
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.body) {
				t.Errorf("%s %s = %d %q, want %d with %q", test.method, test.path, w.Code, w.Body.String(), test.status, test.body)
			}
		})
	}
}

func TestServeStatusEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- telemetry.ServeStatus(ctx, l, telemetry.StatusHandler(telemetry.NewRegistry("test"), nil, nil))
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET /readyz = %d, want 200", resp.StatusCode)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ServeStatus() = %v, want nil", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}
