package upstream_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

// What comes after a response belongs to nobody: it must never become the answer to the next request.
// net/http does not see to that: it notices a moment later.
func TestDirtyConnectionsAreNotReused(t *testing.T) {
	t.Parallel()
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	tests := []struct{ name, method, raw string }{
		{"garbage", "GET", ok("good") + "garbage"},
		{"another answer", "GET", ok("good") + evil},
		{"one byte", "GET", ok("good") + "H"},
		{"after chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evil},
		{"body after HEAD", "HEAD", ok("good") + evil},
		{"body after 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + evil},
	}
	for _, tt := range tests {
		for _, later := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s later %t", tt.name, later), func(t *testing.T) {
				t.Parallel()
				g := start(t, "")
				now, done := make(chan bool, 1), make(chan bool, 1)
				t.Cleanup(func() { close(now) })
				s := service(listen(t, func(n int, c net.Conn) {
					in := bufio.NewReader(c)
					for {
						if _, _, err := readRequest(in); err != nil {
							return
						}
						if n > 0 {
							fmt.Fprint(c, ok("second"))
							continue
						}
						head, rest := tt.raw, ""
						if i := strings.Index(tt.raw, "good"); later && i > 0 && tt.name != "after chunks" {
							head, rest = tt.raw[:i+4], tt.raw[i+4:]
						}
						if tt.method == "HEAD" {
							head, rest = strings.TrimSuffix(head, "good"), "good"+rest
						}
						fmt.Fprint(c, head)
						if _, again := <-now; !again {
							return
						}
						fmt.Fprint(c, rest)
						done <- true
					}
				}))
				r := get(t, s, "/")
				r.Method = []byte(tt.method)
				first := g.do(r)
				now <- true
				<-done
				testkit.Await(t, testkit.Deadline, func() error {
					if n := upstream.Reusable(g.Manager); n > 0 {
						return errors.New("it has not come yet")
					}
					return nil
				})
				if second := g.do(get(t, s, "/")); second.body != "second" {
					t.Errorf("after %v the next request was answered %v", first, second)
				}
			})
		}
	}
}
