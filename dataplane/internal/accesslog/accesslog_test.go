package accesslog_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
)

// request is an ordinary one that went well.
func request() *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Timings.Received = time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC)
	x.Timings.UpstreamStarted = x.Timings.Received.Add(200 * time.Microsecond)
	x.Timings.UpstreamHead = x.Timings.Received.Add(1200 * time.Microsecond)
	x.Timings.Done = x.Timings.Received.Add(1500 * time.Microsecond)
	q := &x.Request
	q.Method, q.Host, q.Path, q.Scheme, q.Proto = []byte("GET"), []byte("api.test"), []byte("/orders/12345"), "https", 11
	q.Query, q.RawTarget = []byte("api_key=top-secret"), []byte("/a?api_key=top-secret")
	q.ClientIP, q.RemoteAddr = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddrPort("192.0.2.1:4711")
	q.Header.Add(exchange.Field("X-API-Key", "top-secret"))
	q.Header.Add(exchange.Field("User-Agent", "curl/8.5.0"))
	x.Route = exchange.RouteInfo{Name: "orders", Service: "shop"}
	x.Principal = &exchange.Principal{Consumer: "alice", Credential: "a1"}
	x.Trace = exchange.Trace{
		RequestID: x.ID().Append(nil), Parent: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
	}
	return x
}

// refused is one with everything that a line may have.
func refused() *exchange.Exchange {
	x := request()
	x.Request.Path = []byte("/a\"\n\xff\u2028")
	x.StoppedBy = &exchange.PolicyRef{Type: "acl", Name: "acl", OwnerKind: "routes", OwnerName: "r"}
	x.Reports = []exchange.Report{
		{By: x.StoppedBy, Refusal: exchange.NewRefusal(403, "forbidden", "no")},
		{By: &exchange.PolicyRef{Type: "cors", Name: "c", OwnerKind: "services", OwnerName: "s"}, Refusal: exchange.NewRefusal(405, "no", "no")},
	}
	x.Trace.RequestID, x.Trace.Foreign = []byte("from-the-proxy"), true
	return x
}

// parse reads a line, which must be one JSON object.
func parse(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("line is no JSON: %v\n%s", err, line)
	}
	if bytes.IndexByte(line, '\n') != len(line)-1 {
		t.Fatalf("line is not one line: %s", line)
	}
	return got
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// running starts a log and returns it with a function that ends it and waits.
func running(t *testing.T, out io.Writer) (*accesslog.Log, func()) {
	t.Helper()
	l := accesslog.New(out, quiet())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return l, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
}

// writes counts lines and tells of every write.
type writes struct {
	mu  sync.Mutex
	got bytes.Buffer
	n   int
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return w.got.Write(p)
}

func (w *writes) lines() (lines, writes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Count(w.got.Bytes(), []byte("\n")), w.n
}

func TestALineWaitsATenthOfASecondAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writes{}
		l, end := running(t, w)
		l.Observe(request(), accesslog.Outcome{Status: 200})
		synctest.Wait()
		if n, _ := w.lines(); n != 0 {
			t.Errorf("%d lines are written one by one", n)
		}
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
		if n, _ := w.lines(); n != 1 {
			t.Errorf("%d lines are written after 100 ms, want 1", n)
		}
		end()
	})
}

func TestManyLinesDoNotWaitForTheTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writes{}
		l, end := running(t, w)
		line := len(accesslog.Append(nil, request(), accesslog.Outcome{Status: 200}))
		const shards = 16 // at most
		for range shards * (64<<10/line + 1) {
			l.Observe(request(), accesslog.Outcome{Status: 200})
		}
		synctest.Wait()
		if n, writes := w.lines(); n == 0 || n < writes*10 {
			t.Errorf("after 64 KiB %d lines are written in %d writes", n, writes)
		}
		end()
	})
}

func TestEverythingIsWrittenAtTheEnd(t *testing.T) {
	t.Parallel()
	w := &writes{}
	l, end := running(t, w)
	const workers, each = 8, 2000
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			x := request()
			x.Request.Path = fmt.Appendf(nil, "/%d", i)
			for j := range each {
				l.Observe(x, accesslog.Outcome{Status: 200, BytesOut: int64(j)})
			}
		})
	}
	wg.Wait()
	end()
	seen := map[string]map[float64]bool{}
	for line := range bytes.Lines(w.got.Bytes()) {
		got := parse(t, line)
		path := got["path"].(string)
		if seen[path] == nil {
			seen[path] = map[float64]bool{}
		}
		seen[path][got["bytes_out"].(float64)] = true
	}
	if l.Dropped() != 0 || len(seen) != workers {
		t.Errorf("%d dropped, lines of %d workers", l.Dropped(), len(seen))
	}
	for path, lines := range seen {
		if len(lines) != each {
			t.Errorf("%d lines of %s, want %d", len(lines), path, each)
		}
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
	l, end := running(t, w)
	x := request()
	x.Request.Path = bytes.Repeat([]byte("/path"), 400)
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
	end()
	if lines := uint64(bytes.Count(w.got.Bytes(), []byte("\n"))); lines+dropped != n+1 {
		t.Errorf("%d lines written and %d dropped, want %d together", lines, dropped, n+1)
	}
	if w.got.Len() > 20<<20 {
		t.Errorf("%d bytes waited for the writer", w.got.Len())
	}
}

// breaking is a sink that takes so many bytes, then none for one write.
type breaking struct {
	left int
	got  bytes.Buffer
}

func (w *breaking) Write(p []byte) (int, error) {
	if len(p) <= w.left || w.left < 0 {
		return w.got.Write(p)
	}
	n, _ := w.got.Write(p[:w.left])
	w.left = -1
	return n, errors.New("disk full")
}

func TestAFailedWriteTearsOneLineAndCountsAll(t *testing.T) {
	t.Parallel()
	line := len(accesslog.Append(nil, request(), accesslog.Outcome{Status: 200}))
	for _, tt := range []struct {
		name string
		left int
		torn bool
	}{{"within a line", 2*line + 10, true}, {"between lines", 2 * line, false}, {"at once", 0, false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &breaking{left: tt.left}
				var told bytes.Buffer
				l := accesslog.New(w, slog.New(slog.NewTextHandler(&told, nil)))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- l.Run(ctx) }()
				for range 2 {
					for range 10 {
						l.Observe(request(), accesslog.Outcome{Status: 200})
					}
					<-time.After(100 * time.Millisecond)
					synctest.Wait()
				}
				cancel()
				<-done
				whole := 0
				for b := range bytes.Lines(w.got.Bytes()) {
					if json.Valid(b) {
						whole++
					}
				}
				all := bytes.Count(w.got.Bytes(), []byte("\n"))
				if want := 20 - int(l.Dropped()); whole != want || whole < 10 || (all > whole) != tt.torn {
					t.Errorf("%d lines, %d of them whole, %d dropped", all, whole, l.Dropped())
				}
				if s := told.String(); strings.Count(s, "cannot be written") != 1 || strings.Count(s, "written again") != 1 {
					t.Errorf("log says\n%s", s)
				}
			})
		})
	}
}

// logged runs observe with a log and returns its lines, ordered by bytes_in.
func logged(t *testing.T, observe func(l *accesslog.Log)) []map[string]any {
	t.Helper()
	w := &writes{}
	l, end := running(t, w)
	observe(l)
	end()
	var out []map[string]any
	for line := range bytes.Lines(w.got.Bytes()) {
		out = append(out, parse(t, line))
	}
	slices.SortFunc(out, func(a, b map[string]any) int { return cmp.Compare(a["bytes_in"].(float64), b["bytes_in"].(float64)) })
	return out
}

func TestSampleSparesWhatWentWrong(t *testing.T) {
	t.Parallel()
	nothing := &runtime.AccessLog{Sample: 0}
	for _, tt := range []struct {
		name string
		x    *exchange.Exchange
		o    accesslog.Outcome
		want int
	}{
		{"went well", request(), accesslog.Outcome{Status: 204, Settings: nothing}, 0},
		{"redirected", request(), accesslog.Outcome{Status: 302, Settings: nothing}, 0},
		{"refused", request(), accesslog.Outcome{Status: 401, Settings: nothing, Code: "unauthenticated"}, 1},
		{"not found upstream", request(), accesslog.Outcome{Status: 404, Settings: nothing}, 1},
		{"failed", request(), accesslog.Outcome{Status: 502, Settings: nothing}, 1},
		{"aborted", request(), accesslog.Outcome{Status: 200, Settings: nothing, Aborted: true}, 1},
		{"broke off", request(), accesslog.Outcome{Settings: nothing}, 1},
		{"would be refused", refused(), accesslog.Outcome{Status: 200, Settings: nothing}, 1},
		{"everything", request(), accesslog.Outcome{Status: 200, Settings: &runtime.AccessLog{Sample: 1_000_000}}, 1},
		{"no settings", request(), accesslog.Outcome{Status: 200}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := logged(t, func(l *accesslog.Log) { l.Observe(tt.x, tt.o) }); len(got) != tt.want {
				t.Errorf("%d lines, want %d", len(got), tt.want)
			}
		})
	}
}

func TestSampleIsAShare(t *testing.T) {
	t.Parallel()
	const n = 20000
	o := accesslog.Outcome{Status: 200, Settings: &runtime.AccessLog{Sample: 250_000}}
	got := logged(t, func(l *accesslog.Log) {
		for range n {
			l.Observe(request(), o)
		}
	})
	if len(got) < n*23/100 || len(got) > n*27/100 { // more than six standard deviations
		t.Errorf("%d of %d lines at 25%%", len(got), n)
	}
}

func TestEachExchangeHasTheSettingsThatServedIt(t *testing.T) {
	t.Parallel()
	hide := func(member string) *runtime.AccessLog {
		return &runtime.AccessLog{Sample: 1_000_000, Redact: map[string]struct{}{member: {}}}
	}
	before, after := hide("path"), hide("host")
	got := logged(t, func(l *accesslog.Log) {
		for i, s := range []*runtime.AccessLog{before, after, nil, before} {
			l.Observe(request(), accesslog.Outcome{Status: 200, BytesIn: int64(i), Settings: s})
		}
	})
	want := []string{"path", "host", "", "path"}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
	for i, line := range got {
		for member, value := range line {
			if (value == "[redacted]") != (member == want[i]) {
				t.Errorf("line %d has %s %v", i, member, value)
			}
		}
	}
}
