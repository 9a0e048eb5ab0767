package proxybench_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

const streamHost = "stream.bench.test"

// streamBodies sends bodies through the gateway that are far larger than its memory may become.
func (b *bench) streamBodies() {
	b.t.Helper()
	size := int64(1 << 30)
	if b.full {
		size = 10 << 30
	}
	var c *contender
	for _, direction := range []string{"up", "down"} {
		for _, framing := range []string{"length", "chunked"} {
			name := fmt.Sprintf("stream/%s/%s", direction, framing)
			if !b.choice.Has(name, true) {
				continue
			}
			if c == nil {
				c = b.startStream()
			}
			start := time.Now()
			grown := b.stream(c, direction == "up", framing == "chunked", size)
			b.say("%s: grew by %.1f MiB at most while %d MiB passed in %s", name, grown/(1<<20), size>>20, time.Since(start).Round(time.Millisecond))
			b.results = append(b.results, proxybench.Measured(name, "peak-growth-bytes", grown, proxybench.StreamGrowth))
		}
	}
}

// startStream starts a gateway whose group has an upstream of ours.
func (b *bench) startStream() *contender {
	b.t.Helper()
	up := httptest.NewServer(http.HandlerFunc(streaming))
	b.t.Cleanup(up.Close)
	c := b.startRow(false, proxybench.Chain)[0]
	b.gateways.cluster.MustCLI(fmt.Sprintf(`group: %s-1
services:
  - {name: stream, url: %q}
routes:
  - {name: stream, service: stream, hosts: [%s], paths: ["/"], policies: [{type: acl, config: {allow: [gold]}}]}
`, proxybench.Chain, up.URL, streamHost), "apply", "-f", "-", "--wait")
	return c
}

// streaming is the upstream: it checks what it gets, and sends as much as it is asked for.
func streaming(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		n, err := io.Copy(&checker{}, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, n)
		return
	}
	var size int64
	if _, err := fmt.Sscan(r.URL.Query().Get("size"), &size); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Query().Get("chunked") == "" {
		w.Header().Set("Content-Length", fmt.Sprint(size))
	}
	_, _ = io.Copy(w, &pattern{left: size})
}

// stream passes a body and returns how much the gateway grew meanwhile, at most.
func (b *bench) stream(c *contender, up, chunked bool, size int64) float64 {
	b.t.Helper()
	before := b.rss(c)
	if err := b.proc.ResetPeak(c.pids[0]); err != nil {
		b.t.Fatal(err)
	}
	if up {
		b.upload(c, chunked, size)
	} else {
		b.download(c, chunked, size)
	}
	peak, err := b.proc.PeakRSS(c.pids...)
	if err != nil {
		b.t.Fatal(err)
	}
	return float64(max(0, peak-before))
}

func (b *bench) upload(c *contender, chunked bool, size int64) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPut, "http://"+c.plain+"/", &pattern{left: size})
	if err != nil {
		b.t.Fatal(err)
	}
	if !chunked {
		req.ContentLength = size
	}
	if body, _ := io.ReadAll(b.send(req)); string(body) != fmt.Sprint(size) {
		b.t.Fatalf("the upstream got %s bytes, want %d", body, size)
	}
}

func (b *bench) download(c *contender, chunked bool, size int64) {
	b.t.Helper()
	query := fmt.Sprintf("?size=%d", size)
	if chunked {
		query += "&chunked=1"
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://"+c.plain+"/"+query, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if n, err := io.Copy(&checker{}, b.send(req)); n != size || err != nil {
		b.t.Fatalf("got %d bytes, want %d: %v", n, size, err)
	}
}

// send returns the body of the answer.
func (b *bench) send(req *http.Request) io.Reader {
	b.t.Helper()
	req.Host = streamHost
	req.Header.Set("X-API-Key", proxybench.Key(0))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		b.t.Fatalf("answered %d: %s", resp.StatusCode, body)
	}
	return resp.Body
}

// period is how long the pattern is before it repeats: no size of a buffer is a multiple of it.
const period = 251

// patternFrom returns what the pattern has from an offset on, a good deal of it.
func patternFrom(repeated []byte, offset int64) []byte { return repeated[offset%period:] }

func repeatedPattern() []byte {
	b := make([]byte, period*300)
	for i := range b {
		b[i] = byte(i % period)
	}
	return b
}

// pattern reads as a body whose bytes tell where they belong.
type pattern struct {
	left, offset int64
	repeated     []byte
}

func (p *pattern) Read(into []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.repeated == nil {
		p.repeated = repeatedPattern()
	}
	n := copy(into[:min(int64(len(into)), p.left)], patternFrom(p.repeated, p.offset))
	p.offset, p.left = p.offset+int64(n), p.left-int64(n)
	return n, nil
}

// checker refuses bytes that do not belong where they are.
type checker struct {
	offset   int64
	repeated []byte
}

func (c *checker) Write(b []byte) (int, error) {
	if c.repeated == nil {
		c.repeated = repeatedPattern()
	}
	for done := 0; done < len(b); {
		want := patternFrom(c.repeated, c.offset)
		n := min(len(want), len(b)-done)
		if !bytes.Equal(b[done:done+n], want[:n]) {
			return done, errors.New("not what was sent")
		}
		done, c.offset = done+n, c.offset+int64(n)
	}
	return len(b), nil
}

func TestCheckerFindsWhatDoesNotBelong(t *testing.T) {
	t.Parallel()
	body, err := io.ReadAll(&pattern{left: 200_000})
	if err != nil || len(body) != 200_000 {
		t.Fatalf("%d bytes: %v", len(body), err)
	}
	if _, err := (&checker{}).Write(body); err != nil {
		t.Error(err)
	}
	body[123_456]++
	if _, err := (&checker{}).Write(body); err == nil {
		t.Error("a changed byte is not noticed")
	}
}
