package load_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
)

// full says whether what takes minutes to set up is wanted.
func full() bool { return os.Getenv("KEYWARD_FULL") != "" }

// BenchmarkCommitToEnforced changes one route of a group, over the API of a real control plane on a durable database, and
// probes a real gateway of the group by requests until it does as the change says. Groups of several sizes take turns, so
// that what else the machine does falls on all.
//
// ns/op is from sending the change to the first request that met it; commit-ns/op until the API had answered, which is
// after the commit; and fsync-ns/op what the disk takes to make a few bytes durable.
func BenchmarkCommitToEnforced(b *testing.B) {
	sizes := []int{1_000, 10_000}
	if full() {
		sizes = append(sizes, 100_000)
	}
	w := newWorld(b)
	var groups []*probed
	for _, n := range sizes {
		groups = append(groups, w.group(n))
	}
	const changes = 30
	for range changes {
		for _, g := range groups {
			g.change(w.fsync())
		}
	}
	for i, g := range groups {
		b.Run(fmt.Sprint(sizes[i]), func(b *testing.B) { g.report(b) })
	}
}

// BenchmarkColdStart starts a gateway that has nothing, in a group of 100,000 routes and as many consumers with a key
// each, and waits until it is ready. Its peak of memory is the whole process's.
func BenchmarkColdStart(b *testing.B) {
	if !full() {
		b.Skip("takes minutes to set up; set KEYWARD_FULL=1")
	}
	const n = 100_000
	w := newWorld(b)
	w.c.CreateGroup("large")
	w.routes("large", n)
	w.consumers("large", n)
	var peak int64
	for b.Loop() {
		b.StopTimer()
		g := w.c.NewGateway(w.c.JoinToken("large", 1), "--log-level", "info")
		b.StartTimer()
		g.Start()
		g.AwaitReady()
		b.StopTimer()
		peak = max(peak, g.PeakMemory())
		g.Stop(time.Minute)
		b.StartTimer()
	}
	b.ReportMetric(float64(peak), "peak-bytes")
}

// world is an installation and an upstream.
type world struct {
	b        *testing.B
	c        *harness.Cluster
	client   *http.Client
	upstream string
	scratch  *os.File
}

func newWorld(b *testing.B) *world {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	b.Cleanup(up.Close)
	c := harness.New(b, harness.Options{})
	pem, err := os.ReadFile(c.CACert)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	scratch, err := os.Create(filepath.Join(c.Dir, "scratch"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { scratch.Close() })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	b.Cleanup(transport.CloseIdleConnections)
	return &world{b: b, c: c, client: &http.Client{Transport: transport}, upstream: up.URL, scratch: scratch}
}

// apply writes a document with a client that does nothing else: the harness's own checks every answer.
func (w *world) apply(group string, document []byte) {
	w.b.Helper()
	url := "https://" + w.c.Replicas[0].Admin + "/v1/groups/" + group + ":apply"
	req, err := http.NewRequestWithContext(w.b.Context(), http.MethodPost, url, bytes.NewReader(document))
	if err != nil {
		w.b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.c.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		w.b.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.b.Fatalf("apply: %d %.500s: %v", resp.StatusCode, answer, err)
	}
}

// batched applies n resources of a kind, so many at a time that a document stays small.
func (w *world) batched(group, kind string, n int, resource func(i int) any) {
	w.b.Helper()
	const batch = 20_000
	for first := 0; first < n; first += batch {
		var all []any
		for i := first; i < min(n, first+batch); i++ {
			all = append(all, resource(i))
		}
		document, err := json.Marshal(map[string]any{"group": group, kind: all})
		if err != nil {
			w.b.Fatal(err)
		}
		w.apply(group, document)
	}
}

func (w *world) routes(group string, n int) {
	w.b.Helper()
	w.apply(group, fmt.Appendf(nil, `{"group": %q, "settings": {"require_https": false}, "services": [{"name": "s", "url": %q}]}`, group, w.upstream))
	w.batched(group, "routes", n, func(i int) any {
		return map[string]any{
			"name": fmt.Sprintf("r%d", i), "service": "s", "hosts": []string{fmt.Sprintf("h%d.test", i)}, "paths": []string{"/"},
		}
	})
}

func (w *world) consumers(group string, n int) {
	w.b.Helper()
	w.batched(group, "consumers", n, func(i int) any {
		key := fmt.Sprintf("Cold%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0", i)
		return map[string]any{
			"name": fmt.Sprintf("c%d", i), "groups": []string{"gold"},
			"credentials": []any{map[string]any{"name": "k", "type": "key-auth", "config": map[string]any{"key": key}}},
		}
	})
}

// fsync makes a few bytes durable where the database is and says what that took.
func (w *world) fsync() time.Duration {
	w.b.Helper()
	start := time.Now()
	if _, err := w.scratch.WriteString("keyward"); err != nil {
		w.b.Fatal(err)
	}
	if err := w.scratch.Sync(); err != nil {
		w.b.Fatal(err)
	}
	return time.Since(start)
}

// probed is a group with a gateway and what was measured there.
type probed struct {
	w                         *world
	name                      string
	gateway                   *harness.Gateway
	turn                      int
	enforced, commits, fsyncs []time.Duration
}

func (w *world) group(n int) *probed {
	w.b.Helper()
	name := fmt.Sprintf("routes-%d", n)
	w.c.CreateGroup(name)
	w.routes(name, n)
	g := &probed{w: w, name: name, gateway: w.c.StartGateway(name, "--log-level", "info")}
	g.change(0) // the first one opens connections
	g.enforced, g.commits, g.fsyncs = nil, nil, nil
	return g
}

// change gives a route a path that it did not have and waits until a request takes it.
func (g *probed) change(fsync time.Duration) {
	g.w.b.Helper()
	g.turn++
	path := fmt.Sprintf("/turn-%d", g.turn)
	document := fmt.Appendf(nil, `{"group": %q, "routes": [{"name": "r7", "service": "s", "hosts": ["h7.test"], "paths": [%q]}]}`, g.name, path)
	ctx, cancel := context.WithTimeout(g.w.b.Context(), 30*time.Second)
	defer cancel()
	met := make(chan time.Time, 1)
	start := time.Now()
	go func() {
		defer close(met)
		if at, err := g.probe(ctx, path); err == nil {
			met <- at
		}
	}()
	g.w.apply(g.name, document)
	answered := time.Now()
	at, ok := <-met
	if !ok {
		g.w.b.Fatalf("%s: the change was not enforced", g.name)
	}
	g.enforced = append(g.enforced, at.Sub(start))
	g.commits = append(g.commits, answered.Sub(start))
	g.fsyncs = append(g.fsyncs, fsync)
}

// probe asks for the path until there is a route, and says when that was.
func (g *probed) probe(ctx context.Context, path string) (time.Time, error) {
	pause := time.NewTicker(200 * time.Microsecond) // two processors are shared with everything that is measured
	defer pause.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.gateway.HTTP+path, strings.NewReader(""))
		if err != nil {
			return time.Time{}, err
		}
		req.Host = "h7.test"
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return time.Time{}, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusNoContent {
			return time.Now(), nil
		}
		<-pause.C
	}
}

// report gives what was measured before, as the result of a benchmark.
func (g *probed) report(b *testing.B) {
	for b.Loop() {
	}
	b.ReportMetric(median(g.enforced), "ns/op")
	b.ReportMetric(median(g.commits), "commit-ns/op")
	b.ReportMetric(median(g.fsyncs), "fsync-ns/op")
}

func median(of []time.Duration) float64 {
	return float64(slices.Sorted(slices.Values(of))[len(of)/2])
}
