package resilience_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
)

const replaceDocument = `group: default
settings:
  require_https: false
  listeners: {https: {proxy_protocol: false}}
  limits: {connections: %d, body: %dMiB}
services: [{name: hello, url: "http://%s"}]
routes: [{name: hello, service: hello, hosts: [hello.test]}]
`

// TestNothingIsLostWhileGatewaysAreReplaced sends requests at a constant rate, a quarter of them over TLS, and some over
// HTTP/2, while the certificate changes, what the group says of its listeners changes, a gateway is drained and ends, is started again on the
// same addresses, and the other one is drained. No request may fail.
func TestNothingIsLostWhileGatewaysAreReplaced(t *testing.T) {
	for _, engine := range harness.MainEngines() {
		t.Run(strings.ReplaceAll(engine, "/", "-"), func(t *testing.T) { replace(t, engine) })
	}
}

func replace(t *testing.T, engine string) {
	t.Helper()
	duration, rate := 10*time.Second, 1000
	if harness.Full() {
		duration, rate = 60*time.Second, 2000
	}
	c := harness.New(t, harness.Options{})
	up := harness.Nginx(t)
	revision := c.Apply(fmt.Sprintf(replaceDocument, 10_000, 10, up))
	first := c.StartEdge(t, "default", engine, "hello.test")
	second := c.NewEdge(t, "default", engine, "hello.test")
	first.AwaitRevision(revision)
	secure := &tls.Config{RootCAs: first.Cert.Roots, ServerName: "hello.test", MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	secure.RootCAs.AddCert(second.Cert.Authority())
	oldFashioned := secure.Clone()
	oldFashioned.NextProtos = []string{"http/1.1"}
	lb := &balancer{plain: load.NewTargets(first.HTTP), secure: load.NewTargets(first.HTTPS)}
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var wg sync.WaitGroup
	var plain, encrypted load.Result
	config := load.Config{Connections: 512, Timeout: 10 * time.Second, Request: []byte("GET /load HTTP/1.1\r\nHost: hello.test\r\n\r\n")}
	wg.Go(func() {
		config := config
		config.Targets, config.Rate = lb.plain, rate*3/4
		plain = load.Run(ctx, config)
	})
	wg.Go(func() {
		config := config
		config.Targets, config.Rate = lb.secure, rate/4
		config.Dial = func(addr string) (net.Conn, error) {
			return tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, oldFashioned)
		}
		encrypted = load.Run(ctx, config)
	})
	frames := &framesLoad{targets: lb.secure, secure: secure.Clone()}
	wg.Go(func() { frames.run(ctx, t) })
	wg.Go(func() { changeListeners(ctx, t, c, up) })

	at(ctx, duration/10)
	awaitSerial(t, first.HTTPS, secure, first.Cert.Renew(t))
	second.Start()
	second.AwaitReady()
	second.AwaitRevision(revision)
	lb.set(first, second)
	at(ctx, duration/10)
	lb.drain(t, first, second)
	first.Start() // on the same addresses
	first.AwaitReady()
	lb.set(first, second)
	at(ctx, duration/10)
	lb.drain(t, second, first)
	wg.Wait()

	t.Logf("%d requests and %d over TLS, p99 %v and %v; %d over HTTP/2", plain.Sent, encrypted.Sent, plain.P99, encrypted.P99, frames.ok.Load())
	for _, result := range []load.Result{plain, encrypted} {
		if result.Failed > 0 || result.OK != result.Sent {
			t.Errorf("%d of %d requests failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
		}
	}
	if sent, want := plain.Sent+encrypted.Sent, int64(rate)*int64(duration.Seconds())*9/10; sent < want {
		t.Errorf("only %d requests were sent, want at least %d: this machine is too slow for the test to mean anything", sent, want)
	}
	if frames.ok.Load() < int64(duration/time.Second) {
		t.Errorf("only %d requests over HTTP/2", frames.ok.Load())
	}
}

// balancer is a load balancer's list of gateways.
type balancer struct{ plain, secure *load.Targets }

func (b *balancer) set(gateways ...*harness.Edge) {
	var plain, secure []string
	for _, g := range gateways {
		plain, secure = append(plain, g.HTTP), append(secure, g.HTTPS)
	}
	b.plain.Set(plain...)
	b.secure.Set(secure...)
}

// drain takes a gateway out of the list as a load balancer does that looks at readiness, and waits until it has ended.
func (b *balancer) drain(t *testing.T, g *harness.Edge, left ...*harness.Edge) {
	t.Helper()
	g.Signal(syscall.SIGTERM)
	testkit.Await(t, 10*time.Second, func() error {
		if _, ready := g.NotReady(); ready != nil {
			return fmt.Errorf("the draining gateway: %w", ready)
		}
		return nil
	})
	b.set(left...)
	g.AwaitEnd(40 * time.Second)
}

// awaitSerial waits until a listener shows the certificate.
func awaitSerial(t *testing.T, addr string, secure *tls.Config, serial *big.Int) {
	t.Helper()
	fresh := secure.Clone()
	fresh.ClientSessionCache = nil
	testkit.Await(t, 10*time.Second, func() error {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, fresh)
		if err != nil {
			return err
		}
		defer conn.Close()
		if shown := conn.ConnectionState().PeerCertificates[0].SerialNumber; shown.Cmp(serial) != 0 {
			return fmt.Errorf("the certificate is still %v", shown)
		}
		return nil
	})
}

// changeListeners changes what the group says of its listeners and connections, all the time.
func changeListeners(ctx context.Context, t *testing.T, c *harness.Cluster, up string) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		doc := fmt.Sprintf(replaceDocument, 10_000+n%2, 10+n%3, up)
		if _, err := c.TryApply(ctx, c.Replicas[0], "default", doc); err != nil && ctx.Err() == nil {
			t.Errorf("change %d: %v", n, err)
			return
		}
	}
}

// framesLoad sends requests over HTTP/2, one after the other.
type framesLoad struct {
	targets *load.Targets
	secure  *tls.Config
	ok      atomic.Int64
}

func (f *framesLoad) run(ctx context.Context, t *testing.T) {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: f.secure, Protocols: protocols}
	defer transport.CloseIdleConnections()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		addrs := f.targets.Get()
		// What has begun is to end: the load ends between two requests.
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, "https://"+addrs[n%len(addrs)]+"/load", nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Host = "hello.test"
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
		}
		if err != nil {
			t.Errorf("request %d over HTTP/2 to %s: %v", n, req.URL.Host, err)
			return
		}
		f.ok.Add(1)
		<-ticker.C
	}
}
