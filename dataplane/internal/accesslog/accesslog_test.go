package accesslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
)

func sample() *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Timings.Received = time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC)
	x.Timings.Done = x.Timings.Received.Add(1500 * time.Microsecond)
	x.Request.Method, x.Request.Host, x.Request.Path = []byte("GET"), []byte("api.test"), []byte("/a\"\n\xff\u2028")
	x.Request.Query = []byte("api_key=top-secret")
	x.Request.RawTarget = []byte("/a?api_key=top-secret")
	x.Request.ClientIP = netip.MustParseAddr("192.0.2.1")
	x.Request.Header.Add(exchange.Field("X-API-Key", "top-secret"))
	x.Request.Header.Add(exchange.Field("User-Agent", "curl"))
	x.Principal = &exchange.Principal{Consumer: "alice", Credential: "a1"}
	x.StoppedBy = &exchange.PolicyRef{Type: "acl", Name: "acl", OwnerKind: "routes", OwnerName: "r"}
	x.Reports = []exchange.Report{{By: x.StoppedBy, Refusal: exchange.NewRefusal(403, "forbidden", "no")}}
	return x
}

func TestLineIsJSONWithoutCredentials(t *testing.T) {
	t.Parallel()
	line := accesslog.Append(nil, sample(), accesslog.Outcome{Status: 403, Code: "forbidden", BytesOut: 7})
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("line is no JSON: %v\n%s", err, line)
	}
	for key, want := range map[string]any{
		"time": "2026-01-02T03:04:05.006Z", "path": "/a\"\n\ufffd\u2028", "status": 403.0, "consumer": "alice", "duration_us": 1500.0,
		"client_ip": "192.0.2.1", "policy": "acl", "binding": "routes/r/acl", "code": "forbidden", "bytes_out": 7.0,
	} {
		if got[key] != want {
			t.Errorf("%s = %v, want %v", key, got[key], want)
		}
	}
	if strings.Contains(string(line), "top-secret") || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("line shows a credential or is more than one: %s", line)
	}
}

// stuck is a writer that lets nothing through until released.
type stuck struct {
	entered chan struct{}
	release chan struct{}
	got     bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.release
	return s.got.Write(p)
}

func TestNeverBlocksAndCountsWhatItDrops(t *testing.T) {
	t.Parallel()
	w := &stuck{entered: make(chan struct{}, 1), release: make(chan struct{})}
	l := accesslog.New(w, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	x := sample()
	l.Observe(x, accesslog.Outcome{Status: 200})
	<-w.entered
	const n = 20000
	for range n {
		l.Observe(x, accesslog.Outcome{Status: 200})
	}
	dropped := l.Dropped()
	if dropped == 0 || dropped >= n {
		t.Errorf("dropped %d of %d lines behind a stuck writer", dropped, n)
	}
	close(w.release)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if lines := uint64(bytes.Count(w.got.Bytes(), []byte("\n"))); lines+dropped != n+1 {
		t.Errorf("%d lines written and %d dropped, want %d together", lines, dropped, n+1)
	}
}
