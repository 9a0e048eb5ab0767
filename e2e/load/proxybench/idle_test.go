package proxybench_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

const (
	idleConnections = 10_000
	// connections are opened and used by so many at a time.
	idleParallel = 32
	// refreshEvery is how often a connection carries a request, so that nobody takes it for abandoned.
	refreshEvery = 30 * time.Second
	// quiet is how long nothing is sent before memory is read.
	quiet = 5 * time.Second
)

// measureIdle opens many connections, each of which has carried a request, and reads how much larger the process is.
func (b *bench) measureIdle() {
	b.t.Helper()
	for _, protocol := range []proxybench.Protocol{proxybench.Plain, proxybench.TLS} {
		budget := float64(proxybench.IdlePlain)
		if protocol == proxybench.TLS {
			budget = proxybench.IdleTLS
		}
		for _, name := range []string{proxybench.Nginx, proxybench.HAProxy, proxybench.Chain} {
			full := fmt.Sprintf("idle/%s/%s", protocol, name)
			if !b.choice.Has(full, true) {
				continue
			}
			c := b.startRow(false, name)[0] // its own: memory that others have left would be used again
			each := b.idle(c, protocol)
			c.Stop(20 * time.Second)
			held := 0.0
			if name == proxybench.Chain && b.full {
				held = budget
			}
			b.say("%s: %.0f bytes for each of %d idle connections", full, each, idleConnections)
			b.results = append(b.results, proxybench.Measured(full, "bytes/connection", each, held))
		}
	}
}

// idle returns the bytes that a connection takes. Of a gateway, two collections go by first if everything is wanted: Go forces one when there
// was none for two minutes.
func (b *bench) idle(c *contender, protocol proxybench.Protocol) float64 {
	b.t.Helper()
	conns := b.open(c, protocol, 1)
	<-time.After(quiet)
	before := b.rss(c)
	conns = append(conns, b.open(c, protocol, idleConnections)...)
	if c.status != "" && b.full {
		b.awaitCollections(c, conns, 2)
	}
	<-time.After(quiet)
	after := b.rss(c)
	for _, conn := range conns {
		if err := conn.request(); err != nil {
			b.t.Fatalf("%s: a connection did not stay: %v", c.name, err)
		}
		conn.Close()
	}
	return float64(after-before) / idleConnections
}

func (b *bench) rss(c *contender) int64 {
	b.t.Helper()
	n, err := b.proc.RSS(c.pids...)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// awaitCollections keeps connections alive until the collector has run so many times.
func (b *bench) awaitCollections(c *contender, conns []*idleConn, n float64) {
	b.t.Helper()
	const collections = "go_gc_duration_seconds_count"
	deadline := time.Now().Add(10 * time.Minute)
	for until := b.metric(c, collections) + n; b.metric(c, collections) < until; {
		if time.Now().After(deadline) {
			b.t.Fatal("the collector does not run")
		}
		<-time.After(refreshEvery)
		if err := each(conns, (*idleConn).request); err != nil {
			b.t.Fatal(err)
		}
	}
}

// open opens connections and sends a request on each.
func (b *bench) open(c *contender, protocol proxybench.Protocol, n int) []*idleConn {
	b.t.Helper()
	conns := make([]*idleConn, n)
	for i := range conns {
		conns[i] = &idleConn{addr: c.plain}
		if protocol == proxybench.TLS {
			conns[i] = &idleConn{addr: c.tls, tls: &tls.Config{InsecureSkipVerify: true, ServerName: proxybench.HostName(0), NextProtos: []string{"http/1.1"}}}
		}
	}
	if err := each(conns, (*idleConn).request); err != nil {
		b.t.Fatal(err)
	}
	return conns
}

// idleConn is a connection that is opened by its first request.
type idleConn struct {
	net.Conn
	addr string
	tls  *tls.Config
}

func (c *idleConn) request() error {
	if err := c.dial(); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET /1k HTTP/1.1\r\nHost: %s\r\nX-API-Key: %s\r\n\r\n", proxybench.HostName(0), proxybench.Key(0)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 2048), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Close {
		return fmt.Errorf("answered %d, close %t", resp.StatusCode, resp.Close)
	}
	return nil
}

func (c *idleConn) dial() (err error) {
	if c.Conn != nil {
		return nil
	}
	if c.tls != nil {
		c.Conn, err = tls.Dial("tcp", c.addr, c.tls)
		return err
	}
	c.Conn, err = net.Dial("tcp", c.addr)
	return err
}

// each does something with every connection, several at a time, and returns the first error.
func each(conns []*idleConn, do func(*idleConn) error) error {
	var wg sync.WaitGroup
	work, failed := make(chan *idleConn), make(chan error, 1)
	for range idleParallel {
		wg.Go(func() {
			for c := range work {
				if err := do(c); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for _, c := range conns {
		work <- c
	}
	close(work)
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
