package load_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
)

const (
	// others is how many requests a second come to another route, guesses how many logins are tried a second: a hundred times
	// what a processor can verify.
	others  = 1000
	guesses = 1000

	honestKey      = "Quiet7Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0"
	honestPassword = "correct horse battery"
)

const attackedDocument = `{"group": "default", "settings": {"require_https": false, "trusted_proxies": ["127.0.0.0/8"]},
"services": [{"name": "s", "url": %q}],
"routes": [
  {"name": "logins", "service": "s", "hosts": ["logins.test"], "policies": [{"type": "basic-auth"}]},
  {"name": "keys", "service": "s", "hosts": ["keys.test"], "policies": [{"type": "key-auth"}]}],
"consumers": [{"name": "alice", "credentials": [
  {"name": "password", "type": "basic-auth", "config": {"username": "alice", "password": %q}},
  {"name": "key", "type": "key-auth", "config": {"key": %q}}]}]}`

// BenchmarkAttack guesses at basic-auth at full rate, with wrong passwords and users who do not exist, from one address and from
// very many, and measures how long requests to another route take meanwhile. Times with and without an attack take turns, so
// that what else the machine does falls on both. Beside these are times with as many requests that present nothing: what of it
// is the mere number.
//
// p99-ns and p50-ns are medians of the times' percentiles; guesses/s is how many were answered.
func BenchmarkAttack(b *testing.B) {
	w := newWorld(b)
	w.apply("default", fmt.Appendf(nil, attackedDocument, w.upstream, honestPassword, honestKey))
	g := w.c.StartGateway("default", "--log-level", "info")
	g.AwaitRevision(1)
	length, rounds := time.Second, 7
	if full() {
		length, rounds = 10*time.Second, 9
	}
	var count atomic.Int64
	sorts := map[string]func(int64) []byte{
		"quiet": nil,
		"plain": func(int64) []byte { return []byte("GET / HTTP/1.1\r\nHost: logins.test\r\n\r\n") },
		"guess": func(int64) []byte { return guess(count.Add(1)) },
	}
	names := slices.Sorted(maps.Keys(sorts))
	results := map[string][]period{}
	time1 := attackFor(b, g, sorts["guess"], length) // the first one opens connections
	if time1.answered == 0 {
		b.Fatal("no guess was answered")
	}
	for range rounds {
		for _, name := range names {
			results[name] = append(results[name], attackFor(b, g, sorts[name], length))
		}
	}
	for _, name := range names {
		b.Run(name, func(b *testing.B) { report(b, results[name], length) })
	}
}

// guess is a request with a login that is wrong.
func guess(n int64) []byte {
	user, from := fmt.Sprint("nobody", n), fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)
	switch n % 4 {
	case 0: // one address, one user
		user, from = "alice", "198.51.100.66"
	case 1: // one address, many users
		from = "198.51.100.77"
	case 2: // many addresses, one user
		user = "alice"
	}
	login := base64.StdEncoding.EncodeToString([]byte(user + ":wrong"))
	return fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: logins.test\r\nAuthorization: Basic %s\r\nX-Forwarded-For: %s\r\n\r\n", login, from)
}

// period is what a time gave.
type period struct {
	p50, p99 time.Duration
	answered int64 // of the guesses
}

// attackFor sends the requests of others for a while, and the attack beside.
func attackFor(b *testing.B, g *harness.Gateway, attack func(int64) []byte, length time.Duration) period {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), length)
	defer cancel()
	var p period
	var attacking sync.WaitGroup
	if attack != nil {
		var answered atomic.Int64
		attacking.Go(func() {
			load.Run(ctx, load.Config{
				Targets: load.NewTargets(g.HTTP), Rate: guesses, Connections: 64, Timeout: 10 * time.Second, Make: attack,
				Answered: func(int64, int, time.Duration) { answered.Add(1) },
			})
			p.answered = answered.Load()
		})
	}
	honest := load.Run(ctx, load.Config{
		Targets: load.NewTargets(g.HTTP), Rate: others, Connections: 64, Timeout: 10 * time.Second,
		Request: []byte("GET / HTTP/1.1\r\nHost: keys.test\r\nX-API-Key: " + honestKey + "\r\n\r\n"),
	})
	attacking.Wait()
	if honest.Failed > 0 || honest.OK == 0 {
		b.Fatalf("%d of %d requests to another route failed: %q", honest.Failed, honest.Sent, honest.Failures)
	}
	p.p50, p.p99 = honest.P50, honest.P99
	return p
}

func report(b *testing.B, of []period, length time.Duration) {
	for b.Loop() {
	}
	var p50, p99 []time.Duration
	answered := 0.0
	for _, p := range of {
		p50, p99 = append(p50, p.p50), append(p99, p.p99)
		answered += float64(p.answered)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(p50), "p50-ns")
	b.ReportMetric(median(p99), "p99-ns")
	b.ReportMetric(answered/float64(len(of))/length.Seconds(), "guesses/s")
}
