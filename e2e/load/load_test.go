package load_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"keyward.dev/e2e/load"
)

// TestOnlyWhatAnOpenConnectionLosesIsLost runs against a server that closes connections without having said so: idle ones, as
// any server may, which no request is lost by, and others while a request waits for its answer.
func TestOnlyWhatAnOpenConnectionLosesIsLost(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answers int // on a connection before it ends
		waits   bool
		lost    bool
	}{
		"idle":           {answers: 1},
		"with a request": {answers: 1, waits: true, lost: true},
		"at once":        {lost: true, waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go serve(c, tt.answers, tt.waits)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := load.Run(ctx, load.Config{
				Targets: load.NewTargets(l.Addr().String()), Rate: 20, Connections: 1, Timeout: 5 * time.Second,
				Request: []byte("GET / HTTP/1.1\r\nHost: x.test\r\n\r\n"),
			})
			if r.Sent == 0 || (r.Failed > 0) != tt.lost {
				t.Errorf("%d of %d requests were lost: %q", r.Failed, r.Sent, r.Failures)
			}
		})
	}
}

// serve answers so many requests and ends the connection, after the next one if it waits for that.
func serve(c net.Conn, answers int, waits bool) {
	defer c.Close()
	r := bufio.NewReader(c)
	for range answers {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	}
	if waits {
		_, _ = http.ReadRequest(r)
	}
}
