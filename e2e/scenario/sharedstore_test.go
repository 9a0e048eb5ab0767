package scenario_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/redistest"
)

// storeTimeout is how long requests wait for the store at most.
const storeTimeout = time.Second

// storeDocument has the same route three times: each gateway for itself, with a store, and with one without which nothing is taken.
func storeDocument(s *redistest.Server, upstream, password string) string {
	return strings.NewReplacer("UPSTREAM", upstream, "ADDRESS", s.TLSAddress, "AUTHORITY", fmt.Sprintf("%q", s.CA.PEM()),
		"PASSWORD", password, "TIMEOUT", storeTimeout.String(), "USER", redistest.Guard).Replace(`group: default
settings: {require_https: false}
ca-certificates: [{name: redis, certificates: AUTHORITY}]
redis-stores: [{name: nonces, addresses: "ADDRESS", username: USER, password: PASSWORD, tls: {ca: redis}, timeouts: {dial: 2s, operation: TIMEOUT}}]
services: [{name: s, url: "http://UPSTREAM"}]
routes:
  - {name: alone, service: s, hosts: [alone.test], policies: [{type: hmac-auth, config: {require_nonce: true, formats: rfc9421}}]}
  - {name: local, service: s, hosts: [local.test], policies: [{type: hmac-auth, config: {require_nonce: true, formats: rfc9421, replay_store: nonces}}]}
  - {name: strict, service: s, hosts: [strict.test], policies: [{type: hmac-auth, config: {require_nonce: true, formats: rfc9421, replay_store: nonces, on_store_error: deny}}]}
consumers:
  - {name: shop, credentials: [{name: k, type: hmac-auth, config: {key_id: shop-2026, secret: aN8vQ2xT5rL0pW7yE4uC9sJ3kD6gH1mB}}]}
`)
}

// replayer sends requests that are signed with a nonce, and the same ones again.
type replayer struct{ begun time.Time }

// send answers the status and the code of the problem, and how long it took.
func (r replayer) send(t *testing.T, g *harness.Gateway, host, nonce string) (string, time.Duration) {
	input := fmt.Sprintf(`("@method" "@authority" "@path" "@query");created=%d;keyid="shop-2026";nonce="%s"`, r.begun.Unix(), nonce)
	mac := hmac.New(sha256.New, []byte("aN8vQ2xT5rL0pW7yE4uC9sJ3kD6gH1mB"))
	fmt.Fprintf(mac, "\"@method\": GET\n\"@authority\": %s\n\"@path\": /\n\"@query\": ?\n\"@signature-params\": %s", host, input)
	begun := time.Now()
	resp := g.Call(t, http.MethodGet, host, "/", nil, "Signature-Input", "sig="+input, "Signature", "sig=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
	took, said := time.Since(begun), fmt.Sprint(resp.StatusCode)
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if resp.StatusCode == http.StatusUnauthorized {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		said += map[bool]string{true: " replayed", false: " other"}[strings.Contains(string(body), "signature_replayed")]
	}
	return said, took
}

func (r replayer) want(t *testing.T, g *harness.Gateway, host, nonce, want string) {
	t.Helper()
	if got, _ := r.send(t, g, host, nonce); got != want {
		t.Errorf("%s with %s: %s, want %s", host, nonce, got, want)
	}
}

// awaitBack waits until a gateway takes what it takes with its store only.
func (r replayer) awaitBack(t *testing.T, name string, gateways ...*harness.Gateway) {
	t.Helper()
	for i, g := range gateways {
		n := 0
		testkit.Await(t, testkit.Deadline, func() error {
			n++
			if got, _ := r.send(t, g, "strict.test", fmt.Sprintf("%s-%d-%d", name, i, n)); got == "503" {
				return fmt.Errorf("still %s", got)
			} else if got != "200" {
				t.Fatalf("a fresh nonce is answered %s", got)
			}
			return nil
		})
	}
}

// TestSignaturesCountOnceForAllGateways sends what one gateway has taken to another one: with the store, while it is down, while it
// hangs, when it is back, and when its password is another one.
func TestSignaturesCountOnceForAllGateways(t *testing.T) {
	t.Parallel()
	store := redistest.Start(t)
	c, upstream := harness.New(t, harness.Options{}), harness.Echo(t)
	one, other := c.StartGateway("default"), c.StartGateway("default")
	apply := func(password string) {
		revision := c.Apply(storeDocument(store, upstream, password))
		one.AwaitRevision(revision)
		other.AwaitRevision(revision)
	}
	apply(redistest.GuardPassword)
	r := replayer{time.Now()}
	r.awaitBack(t, "start", one, other)

	r.want(t, one, "alone.test", "a", "200")
	r.want(t, one, "alone.test", "a", "401 replayed")
	r.want(t, other, "alone.test", "a", "200") // each for itself
	for _, host := range []string{"local.test", "strict.test"} {
		r.want(t, one, host, "a", "200")
		r.want(t, one, host, "a", "401 replayed")
		r.want(t, other, host, "a", "401 replayed")
		r.want(t, other, host, "b", "200")
		r.want(t, one, host, "b", "401 replayed")
	}
	for _, key := range store.Keys() {
		if !strings.HasPrefix(key, "keyward:once:") || strings.Contains(key, "shop") {
			t.Errorf("the store holds %s", key)
		}
	}

	t.Run("down", func(t *testing.T) {
		store.Stop()
		for _, g := range []*harness.Gateway{one, other} {
			r.want(t, g, "alone.test", "c", "200")
			r.want(t, g, "local.test", "c", "200") // each for itself
			r.want(t, g, "local.test", "c", "401 replayed")
			r.want(t, g, "strict.test", "c", "503")
			r.want(t, g, "strict.test", "c", "503") // it was not used up
			g.AwaitMetric(t, `keyward_gateway_shared_store_requests_total{outcome="failed",store="nonces"}`, 1)
			g.AwaitMetric(t, `keyward_gateway_shared_store_requests_total{outcome="skipped",store="nonces"}`, 1)
		}
		r.want(t, one, "strict.test", "a", "401 replayed") // which it knows itself
		store.Restart()
		r.awaitBack(t, "down", one, other)
		r.want(t, one, "strict.test", "c", "200")
		r.want(t, other, "strict.test", "c", "401 replayed")
	})

	t.Run("hangs", func(t *testing.T) {
		store.Pause()
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				for n, host := range []string{"strict.test", "local.test"} {
					want := []string{"503", "200"}[n]
					if got, took := r.send(t, one, host, fmt.Sprintf("hang-%d", i)); got != want || took > storeTimeout+2*time.Second {
						t.Errorf("%s: %s after %s", host, got, took)
					}
				}
			})
		}
		wg.Wait()
		begun := time.Now()
		for i := range 50 { // nobody waits any more
			r.want(t, one, "strict.test", fmt.Sprintf("later-%d", i), "503")
		}
		if took := time.Since(begun); took > 50*storeTimeout/4 {
			t.Errorf("50 requests while the store is known to hang take %s", took)
		}
		store.Resume()
		r.awaitBack(t, "hang", one, other)
		for i := range 40 { // what was told to try again is not told that it did
			r.want(t, one, "strict.test", fmt.Sprintf("hang-%d", i), "200")
		}
	})

	t.Run("another password", func(t *testing.T) {
		if _, err := store.Do("ACL", "SETUSER", redistest.Guard, ">changed", "<"+redistest.GuardPassword); err != nil {
			t.Fatal(err)
		}
		apply("changed")
		r.awaitBack(t, "password", one, other)
		r.want(t, one, "local.test", "after", "200")
		r.want(t, other, "local.test", "after", "401 replayed")
		r.want(t, other, "strict.test", "a", "401 replayed") // what was taken before
	})
}
