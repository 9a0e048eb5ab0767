package upstream_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
)

// moody is an upstream that does with each connection what it likes; but what it answers always tells which request it
// answers.
func moody(n int, c net.Conn, honest bool) {
	luck := rand.New(rand.NewPCG(uint64(n), 7))
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		id := r.Header.Get("X-Id")
		early := luck.IntN(8) == 0
		sum := "early"
		if !early {
			h := sha256.New()
			if _, err := io.Copy(h, r.Body); err != nil {
				return
			}
			sum = hex.EncodeToString(h.Sum(nil))
		}
		size, _ := strconv.Atoi(r.Header.Get("X-Size"))
		body := fill(id, size)
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nX-Sum: %s\r\n", id, sum)
		out := head
		close, cut, garbage := luck.IntN(10) == 0, luck.IntN(12) == 0, luck.IntN(12) == 0
		switch luck.IntN(3) {
		case 0:
			out += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		case 1:
			out += "Transfer-Encoding: chunked\r\n\r\n"
			for rest := body; rest != ""; {
				k := min(len(rest), 1+luck.IntN(5000))
				out += fmt.Sprintf("%x\r\n%s\r\n", k, rest[:k])
				rest = rest[k:]
			}
			out += "0\r\nX-Trailer: " + id + "\r\n\r\n"
		case 2:
			out += "Connection: close\r\n\r\n" + body
			close, cut, garbage = true, false, false
		}
		if garbage && !honest {
			out += "HTTP/1.1 200 OK\r\nX-Id: garbage\r\nContent-Length: 0\r\n\r\n"
		}
		if cut {
			out, close = out[:luck.IntN(len(out)-len(id))], true
		}
		for rest := out; rest != ""; {
			k := min(len(rest), 1+luck.IntN(40_000))
			if _, err := io.WriteString(c, rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
		if close || early {
			if early { // so that no reset overtakes the answer
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, _ = io.CopyN(io.Discard, in, 1<<20)
			}
			return
		}
	}
}

func fill(id string, size int) string {
	return strings.Repeat(id+"|", size/(len(id)+1)+1)[:size]
}

// randomBody is a body of random pieces.
type randomBody struct {
	list  []string
	whole bool
	mu    sync.Mutex
	over  bool
}

func (b *randomBody) Whole() ([]byte, bool) {
	if b.whole {
		return []byte(strings.Join(b.list, "")), true
	}
	return nil, false
}

func (b *randomBody) Next() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return nil, context.Canceled
	}
	if len(b.list) == 0 {
		return nil, io.EOF
	}
	piece := b.list[0]
	b.list = b.list[1:]
	return []byte(piece), nil
}

func (b *randomBody) Trailer() exchange.Headers { return nil }

func (b *randomBody) Abort() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

// Whatever upstreams and clients do, an answer belongs to its request and is whole, or it is an error.
func TestEveryAnswerBelongsToItsRequest(t *testing.T) {
	t.Parallel()
	rounds := 150
	if testing.Short() {
		rounds = 20
	}
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		// net/http takes what comes behind an answer for the next one if the next request is quick enough.
		mood := func(n int, c net.Conn) { moody(n, c, engine != "") }
		s := service(listen(t, mood), listen(t, mood))
		s.Pool.MaxConns, s.Pool.MaxIdle = 12, 8
		s.Call.Retry = runtime.Retry{Attempts: 3, On: all, Budget: 100}
		var good, bad sync.Map
		var wg sync.WaitGroup
		for worker := range 16 {
			wg.Go(func() {
				luck := rand.New(rand.NewPCG(uint64(worker), 1))
				var resp upstream.Response // used again and again, as the server does
				for i := range rounds {
					id := fmt.Sprintf("%d-%d", worker, i)
					if err := mixed(t, g, s, &resp, luck, id); err != nil {
						bad.Store(id, err)
					} else {
						good.Store(id, true)
					}
				}
			})
		}
		wg.Wait()
		if n := upstream.Active(g.Manager); n != 0 {
			t.Errorf("%d requests are still counted", n)
		}
		n := 0
		good.Range(func(any, any) bool { n++; return true })
		if n < 16*rounds/3 {
			t.Errorf("only %d of %d requests were answered", n, 16*rounds)
		}
	})
}

// mixed makes one request and checks its answer. The error is one of those that may happen.
func mixed(t *testing.T, g *gateway, s *runtime.Service, resp *upstream.Response, luck *rand.Rand, id string) error {
	size := luck.IntN(100) * luck.IntN(2000)
	r := get(t, s, "/")
	r.Header = exchange.Headers{field("X-Id", id), field("X-Size", strconv.Itoa(size))}
	sum := sha256.New()
	if luck.IntN(2) == 0 {
		b := &randomBody{whole: luck.IntN(2) == 0}
		length := 0
		for range luck.IntN(6) {
			piece := fill(id, 1+luck.IntN(30_000))
			b.list = append(b.list, piece)
			length += len(piece)
			sum.Write([]byte(piece))
		}
		r.Method, r.Body, r.ContentLength = []byte("PUT"), b, -1
		if luck.IntN(2) == 0 && length > 0 {
			r.ContentLength = int64(length)
		}
	}
	if luck.IntN(6) == 0 {
		timer := time.AfterFunc(time.Duration(luck.IntN(3000))*time.Microsecond, resp.Abort)
		defer timer.Stop()
	}
	if err := g.Do(context.Background(), r, resp); err != nil {
		return err
	}
	defer resp.Close()
	if got := string(resp.Header.Get("X-Id")); got != id {
		t.Errorf("request %s was answered as %q", id, got)
	}
	if got := string(resp.Header.Get("X-Sum")); got != "early" && got != hex.EncodeToString(sum.Sum(nil)) {
		t.Errorf("request %s came with another body", id)
	}
	var body strings.Builder
	stop := luck.IntN(10) == 0
	for {
		piece, err := resp.Next()
		body.Write(piece)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if stop {
			return nil
		}
	}
	if body.String() != fill(id, size) {
		t.Errorf("request %s was answered with %q, want %d bytes", id, shorten(body.String()), size)
	}
	return nil
}
