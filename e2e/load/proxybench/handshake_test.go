package proxybench_test

import (
	"crypto/tls"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// shakers is how many connections are made at a time.
const shakers = 8

var errNotResumed = errors.New("the session was not resumed")

// shakeHands compares what a new TLS connection costs that carries one request: with the whole handshake, and resumed. The
// certificate is the same, on ECDSA P-256, and so are the key exchanges that the client offers: nginx does not know the
// hybrid one.
func (b *bench) shakeHands() {
	b.t.Helper()
	for _, resumed := range []bool{false, true} {
		name := "handshake/full"
		if resumed {
			name = "handshake/resumed"
		}
		if !b.choice.Has(name, true) {
			continue
		}
		var of []*contender
		for _, c := range b.row(false) {
			if c.tls != "" && slices.Contains([]string{proxybench.Nginx, proxybench.HAProxy, proxybench.Bare}, c.name) {
				of = append(of, c)
			}
		}
		series := make([]proxybench.Series, len(of))
		for i, c := range of {
			series[i] = proxybench.Series{Contender: c.name, Logs: c.logs}
			b.handshakes(c, resumed, warmUp)
		}
		for range b.rounds {
			for i, c := range of {
				run, saw := b.handshakes(c, resumed, b.window)
				series[i].Runs, series[i].Loads = append(series[i].Runs, run), append(series[i].Loads, saw)
			}
		}
		if err := proxybench.Table(os.Stdout, name, series); err != nil {
			b.t.Fatal(err)
		}
		b.results = append(b.results, proxybench.Judge(name, series, proxybench.Budgets())...)
	}
}

// handshakes makes connections for a while, and returns what each cost.
func (b *bench) handshakes(c *contender, resumed bool, d time.Duration) (proxybench.Run, proxybench.Load) {
	b.t.Helper()
	before, began := b.cpu(c.pids...), time.Now()
	took := make([][]time.Duration, shakers)
	var failure atomic.Pointer[error]
	var all sync.WaitGroup
	for i := range shakers {
		config := &tls.Config{
			InsecureSkipVerify: true, ServerName: proxybench.HostName(0), NextProtos: []string{"http/1.1"},
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		}
		if resumed {
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
		all.Go(func() {
			for time.Since(began) < d && failure.Load() == nil {
				start := time.Now()
				if err := connection(c.tls, config, resumed && len(took[i]) > 0); err != nil {
					failure.Store(&err)
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	all.Wait()
	if err := failure.Load(); err != nil {
		b.t.Fatalf("%s: %v", c.name, *err)
	}
	whole, spent := time.Since(began), b.cpu(c.pids...)-before
	each := slices.Sorted(slices.Values(slices.Concat(took...)))
	n := len(each)
	run := proxybench.Run{CPU: spent / time.Duration(n), Busy: float64(spent) / float64(whole), Rate: float64(n) / whole.Seconds(), RSS: b.rss(c)}
	return run, proxybench.Load{P50: each[n/2], P99: each[n*99/100]}
}

// connection makes one, sends a request over it, which brings the ticket for the next, and closes it.
func connection(addr string, config *tls.Config, resumes bool) error {
	c := &idleConn{addr: addr, tls: config}
	if err := c.request(); err != nil {
		return err
	}
	defer c.Close()
	if conn, ok := c.Conn.(*tls.Conn); ok && resumes && !conn.ConnectionState().DidResume {
		return errNotResumed
	}
	return nil
}
