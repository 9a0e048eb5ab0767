package upstream_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

func TestBodiesArriveWhole(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(_ *http.Request, body string) string { return ok(body) }))
		for _, n := range []int{0, 1, 100, 8 << 10, 64 << 10, 64<<10 + 1, 200 << 10, 1 << 20} {
			want := strings.Repeat("0123456789abcdef", n/16+1)[:n]
			var cut []string
			for rest := want; rest != ""; {
				k := min(len(rest), 50_000)
				cut, rest = append(cut, rest[:k]), rest[k:]
			}
			for _, tt := range []struct {
				name   string
				body   upstream.Body
				length int64
			}{
				{"whole", whole(want), int64(n)},
				{"whole without length", whole(want), -1},
				{"pieces", newPieces(cut...), int64(n)},
				{"chunks", newPieces(cut...), -1},
			} {
				a := g.do(post(t, s, "/", tt.body, tt.length))
				if a.err != nil || a.body != want || !a.sent {
					t.Errorf("%s of %d bytes: %v, sent %t", tt.name, n, a, a.sent)
				}
			}
		}
	})
}

// withTrailer is a body in memory with a trailer.
type withTrailer struct {
	whole
	trailer exchange.Headers
}

func (b withTrailer) Trailer() exchange.Headers { return b.trailer }

func TestRequestTrailers(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(r *http.Request, body string) string {
			return ok(fmt.Sprintf("%s %v", body, r.Trailer))
		}))
		trailer := exchange.Headers{field("X-Sum", "7"), field("Content-Length", "9"), field("Authorization", "x")}
		streamed := newPieces("a", "b")
		streamed.trailer = trailer
		for name, b := range map[string]upstream.Body{"streamed": streamed, "whole": withTrailer{"ab", trailer}} {
			if a := g.do(post(t, s, "/", b, -1)); a.body != "ab map[X-Sum:[7]]" {
				t.Errorf("%s: upstream got %q", name, a.body)
			}
		}
	})
}

// The answer to a request that has not come whole is passed on at once; then nothing more of the request is asked for.
func TestEarlyAnswers(t *testing.T) {
	t.Parallel()
	const refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
	eachEngine(t, func(t *testing.T, engine string) {
		for _, closing := range []bool{false, true} {
			for _, length := range []int64{-1, 1 << 30} {
				t.Run(fmt.Sprintf("closing %t length %d", closing, length), func(t *testing.T) {
					t.Parallel()
					g := start(t, engine)
					s := service(listen(t, func(_ int, c net.Conn) {
						in := bufio.NewReader(c)
						if _, err := http.ReadRequest(in); err != nil {
							return
						}
						fmt.Fprint(c, refusal)
						if !closing {
							_, _ = io.Copy(io.Discard, in)
						}
					}))
					b := newPieces(strings.Repeat("x", 1000))
					b.wait = make(chan struct{}, 1)
					b.wait <- struct{}{} // the first piece comes, then the client takes its time
					a := g.do(post(t, s, "/", b, length))
					if a.err != nil || a.status != 413 || a.body != "big" || a.sent {
						t.Errorf("%v, sent %t, want 413 and not sent", a, a.sent)
					}
					select {
					case <-b.aborted:
					default:
						t.Error("the body was not aborted")
					}
					if a := g.do(get(t, s, "/")); a.status != 413 {
						t.Errorf("the next request is answered %v", a)
					}
				})
			}
		}
	})
}

// An upstream that refuses a body without reading it may close while the body is on its way.
func TestEarlyAnswerToAFlood(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(listen(t, func(_ int, c net.Conn) {
			in := bufio.NewReaderSize(c, 16)
			for line := ""; line != "\r\n"; {
				var err error
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			fmt.Fprint(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, io.LimitReader(in, 1<<20))
		}))
		big := strings.Repeat("x", 8<<20)
		var list []string
		for i := 0; i < len(big); i += 64 << 10 {
			list = append(list, big[i:i+64<<10])
		}
		for name, b := range map[string]upstream.Body{"whole": whole(big), "pieces": newPieces(list...)} {
			a := g.do(post(t, s, "/", b, int64(len(big))))
			if a.status != 413 && (engine == "" || a.status != 502) {
				t.Errorf("%s: %v, want 413", name, a)
			}
		}
	})
}

// Request and response flow at the same time.
func TestBothDirectionsFlow(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(listen(t, func(_ int, c net.Conn) {
			in := bufio.NewReader(c)
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			buf := make([]byte, 100)
			for {
				n, err := r.Body.Read(buf)
				if n > 0 {
					fmt.Fprintf(c, "%x\r\n%s\r\n", n, buf[:n])
				}
				if err != nil {
					break
				}
			}
			fmt.Fprint(c, "0\r\n\r\n")
		}))
		b := newPieces("one", "two", "three")
		b.wait = make(chan struct{}, 1)
		var resp upstream.Response
		b.wait <- struct{}{}
		if err := g.Do(t.Context(), post(t, s, "/", b, -1), &resp); err != nil {
			t.Fatal(err)
		}
		defer resp.Close()
		for _, want := range []string{"one", "two", "three"} {
			piece, err := resp.Next()
			if err != nil || string(piece) != want {
				t.Fatalf("got %q, %v, want %q", piece, err, want)
			}
			if resp.Sent() {
				t.Error("sent before the body has ended")
			}
			b.wait <- struct{}{}
		}
		if _, err := resp.Next(); !errors.Is(err, io.EOF) || !resp.Sent() {
			t.Errorf("Next() = %v, sent %t, want io.EOF and sent", err, resp.Sent())
		}
	})
}

var errPolicy = errors.New("refused by a policy")

// An error of the body itself is returned as it is, at once, and the upstream never takes the request for whole.
func TestBodyErrors(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, length := range []int64{-1, 100} {
			t.Run(fmt.Sprint("length ", length), func(t *testing.T) {
				t.Parallel()
				g := start(t, engine)
				got := make(chan error, 10)
				s := service(listen(t, func(_ int, c net.Conn) {
					_, _, err := readRequest(bufio.NewReader(c))
					got <- err
				}))
				b := newPieces("a", "b")
				b.end = errPolicy
				r := post(t, s, "/", b, length)
				r.Options = &s.Call
				r.Options.Retry.Attempts, r.Options.Retry.On = 3, 0xff
				if a := g.do(r); !errors.Is(a.err, errPolicy) || a.status != 0 || a.code != "request_body" {
					t.Errorf("%v, want the body's error", a)
				}
				if err := <-got; err == nil {
					t.Error("upstream got a whole request")
				}
				if n := len(got); n > 0 {
					t.Errorf("%d requests more", n)
				}
			})
		}
	})
}

func TestBodiesThatDoNotKeepTheirLength(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(_ *http.Request, body string) string { return ok(body) }))
		for _, list := range [][]string{{}, {"ab"}, {"abcd"}, {"ab", "cd"}} {
			if a := g.do(post(t, s, "/", newPieces(list...), 3)); a.err == nil || a.status != 0 {
				t.Errorf("body %q of length 3: %v, want an error", list, a)
			}
		}
	})
}

// An error of the body while the answer comes ends the answer: it may depend on what is missing.
func TestBodyErrorDuringTheAnswer(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(listen(t, func(_ int, c net.Conn) {
			in := bufio.NewReader(c)
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			_, _ = io.Copy(io.Discard, in)
		}))
		b := newPieces("a")
		b.wait, b.end = make(chan struct{}, 1), errPolicy
		b.wait <- struct{}{}
		var resp upstream.Response
		if err := g.Do(t.Context(), post(t, s, "/", b, -1), &resp); err != nil {
			t.Fatal(err)
		}
		defer resp.Close()
		if piece, err := resp.Next(); string(piece) != "hello" || err != nil {
			t.Fatalf("%q, %v", piece, err)
		}
		b.wait <- struct{}{}
		if _, err := resp.Next(); !errors.Is(err, errPolicy) {
			t.Errorf("Next() = %v, want the body's error", err)
		}
	})
}

// A large body goes through in constant memory: what is not taken is not read.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		release := make(chan struct{})
		s := service(listen(t, func(_ int, c net.Conn) {
			in := bufio.NewReader(c)
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			<-release
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(c, ok(fmt.Sprint(n)))
		}))
		b := &endless{left: 64 << 20, piece: bytes.Repeat([]byte("x"), 64<<10)}
		done := make(chan answer)
		go func() { done <- g.do(post(t, s, "/", b, 64<<20)) }()
		before := int64(-1)
		testkit.Await(t, testkit.Deadline, func() error { // it stops when all buffers are full
			now := b.given.Load()
			if now != before || now == 0 {
				before = now
				<-time.After(20 * time.Millisecond)
				return fmt.Errorf("%d bytes were taken and more are", now)
			}
			return nil
		})
		if before > 32<<20 {
			t.Errorf("%d bytes were taken of a body that nobody reads", before)
		}
		close(release)
		if a := <-done; a.body != fmt.Sprint(64<<20) {
			t.Errorf("%v", a)
		}
	})
}

// endless is a body of many equal pieces.
type endless struct {
	left  int64
	piece []byte
	given atomic.Int64
}

func (b *endless) Whole() ([]byte, bool)     { return nil, false }
func (b *endless) Trailer() exchange.Headers { return nil }
func (b *endless) Abort()                    {}
func (b *endless) Next() ([]byte, error) {
	if b.left <= 0 {
		return nil, io.EOF
	}
	b.left -= int64(len(b.piece))
	b.given.Add(int64(len(b.piece)))
	return b.piece, nil
}
