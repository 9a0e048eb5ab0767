package syncbench_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"keyward.dev/e2e/harness"
)

// world is an installation, an upstream and a client that does nothing else: the harness's own checks every answer.
type world struct {
	*bench
	c        *harness.Cluster
	client   *http.Client
	upstream string
	scratch  *os.File
}

func (b *bench) world(replicas int) *world {
	b.t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	b.t.Cleanup(up.Close)
	c := harness.New(b.t, harness.Options{
		Replicas: replicas, DatabaseParameters: map[string]string{"track_commit_timestamp": "on"},
	})
	scratch, err := os.Create(filepath.Join(c.Dir, "scratch"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { scratch.Close() })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.Roots(), MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &world{bench: b, c: c, client: &http.Client{Transport: transport}, upstream: up.URL, scratch: scratch}
}

// call calls the first replica's REST API.
func (w *world) call(method, path string, body []byte, into any) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+w.c.Replicas[0].Admin+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.c.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s %s: %d %.500s: %v", method, path, resp.StatusCode, answer, err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		w.t.Fatalf("%s %s answered %.500s: %v", method, path, answer, err)
	}
}

// apply applies a document and returns the revision and when the API had answered.
func (w *world) apply(group string, document []byte) (int64, time.Time) {
	w.t.Helper()
	var answer struct {
		Revision json.Number `json:"revision"`
	}
	w.call(http.MethodPost, "/v1/groups/"+group+":apply", document, &answer)
	now := time.Now()
	return w.number(answer.Revision), now
}

func (w *world) number(text json.Number) int64 {
	w.t.Helper()
	n, err := text.Int64()
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// commits returns when the revisions of a group were committed, by the database: the control plane's own time of a revision is
// from when it was planned.
func (w *world) commits(group string) map[int64]time.Time {
	w.t.Helper()
	at := map[int64]time.Time{}
	for _, row := range w.c.Rows(fmt.Sprintf(`select c.revision, (extract(epoch from pg_xact_commit_timestamp(c.xmin)) * 1000000)::bigint
from changes c join groups g on g.uid = c.group_uid where g.name = '%s'`, group)) {
		at[w.number(json.Number(row[0]))] = time.UnixMicro(w.number(json.Number(row[1])))
	}
	return at
}

// batched applies n resources of a kind, so many at a time that a document stays small.
func (w *world) batched(group, kind string, n int, resource func(i int) any) {
	w.t.Helper()
	const batch = 20_000
	for first := 0; first < n; first += batch {
		var all []any
		for i := first; i < min(n, first+batch); i++ {
			all = append(all, resource(i))
		}
		document, err := json.Marshal(map[string]any{"group": group, kind: all})
		if err != nil {
			w.t.Fatal(err)
		}
		w.apply(group, document)
	}
}

// routes makes a group with so many routes.
func (w *world) routes(group string, n int) {
	w.t.Helper()
	w.c.CreateGroup(group)
	w.apply(group, fmt.Appendf(nil, `{"group": %q, "settings": {"require_https": false}, "services": [{"name": "s", "url": %q}]}`, group, w.upstream))
	w.batched(group, "routes", n, func(i int) any {
		return map[string]any{
			"name": fmt.Sprintf("r%d", i), "service": "s", "hosts": []string{fmt.Sprintf("h%d.test", i)}, "paths": []string{"/"},
		}
	})
}

// turn is a change of one route to a path that it did not have.
func turn(group string, n int) (document []byte, path string) {
	path = fmt.Sprintf("/turn-%06d", n)
	return fmt.Appendf(nil, `{"group": %q, "routes": [{"name": "r7", "service": "s", "hosts": ["h7.test"], "paths": [%q]}]}`, group, path), path
}

// fsync makes a few bytes durable where the database is and says what that took.
func (w *world) fsync() time.Duration {
	w.t.Helper()
	start := time.Now()
	if _, err := w.scratch.WriteString("keyward"); err != nil {
		w.t.Fatal(err)
	}
	if err := w.scratch.Sync(); err != nil {
		w.t.Fatal(err)
	}
	return time.Since(start)
}

// probed is what came of one change.
type probed struct {
	revision int64
	met      time.Time // by a request
	trip     time.Duration
}

// change makes a change and waits until a request to the gateway meets it.
func (w *world) change(g *harness.Gateway, group string, n int) probed {
	w.t.Helper()
	document, path := turn(group, n)
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	met := make(chan probed, 1)
	go func() {
		defer close(met)
		if p, err := probe(ctx, g.HTTP, path); err == nil {
			met <- p
		}
	}()
	revision, _ := w.apply(group, document)
	p, ok := <-met
	if !ok {
		w.t.Fatalf("%s: change %d was not enforced", group, n)
	}
	p.revision = revision
	return p
}

// probe asks for the path until there is a route, and says when the answer was there and how long it took.
func probe(ctx context.Context, addr, path string) (probed, error) {
	pause := time.NewTicker(300 * time.Microsecond) // the processors are shared with everything that is measured
	defer pause.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, strings.NewReader(""))
		if err != nil {
			return probed{}, err
		}
		req.Host = "h7.test"
		sent := time.Now()
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return probed{}, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusNoContent {
			now := time.Now()
			return probed{met: now, trip: now.Sub(sent)}, nil
		}
		<-pause.C
	}
}
