package jwtauth_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/jwk"
)

// TestFetchedKeysOutlivePushes: a policy that is built anew, changed or not, asks nobody for keys that are there, and so goes on
// while nobody could be asked. Those of another place are not there.
func TestFetchedKeysOutlivePushes(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.ES256, "k")
	w.publish(nil, k)
	if _, status, why := w.ask(w.build(t, fetched()), k.Token(nil, w.claims(nil))); status != 200 {
		t.Fatalf("%d %s", status, why)
	}
	w.publish(errors.New("down"), k)
	changed, elsewhere := fetched(), fetched()
	changed.Realm = "changed"
	elsewhere.Issuers[0].JwksUri = "https://id.test/other"
	for n, step := range []struct {
		cfg  *policyv1.JwtAuth
		want int
	}{{fetched(), 200}, {changed, 200}, {elsewhere, 503}, {fetched(), 200}} {
		raw := k.Token(nil, w.claims(map[string]any{"jti": fmt.Sprint(n)}))
		if _, status, why := w.ask(w.build(t, step.cfg), raw); status != step.want {
			t.Errorf("push %d: %d %s, want %d", n, status, why, step.want)
		}
	}
}

// TestUsedProofsOutlivePushes: a proof that was seen before a push is no proof after it.
func TestUsedProofsOutlivePushes(t *testing.T) {
	t.Parallel()
	w, k, mine := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, ""), tokentest.NewKey(t, jwk.ES256, "")
	raw := k.Token(nil, w.claims(map[string]any{"cnf": map[string]any{"jkt": thumbprint(t, mine)}}))
	proof := mine.Token(map[string]any{"typ": "dpop+jwt", "jwk": public(mine)}, map[string]any{
		"jti": "1", "htm": "GET", "htu": "https://api.test/", "iat": w.now.Unix(), "ath": token.Hash([]byte(raw)),
	})
	changed := static(t, k)
	changed.Leeway = durationpb.New(0)
	for n, step := range []struct {
		cfg  *policyv1.JwtAuth
		want int
	}{{static(t, k), 200}, {static(t, k), 401}, {changed, 401}} {
		x, got := &exchange.Exchange{Directory: w.directory}, 200
		x.Timings.Received = w.now
		x.Request.Method, x.Request.RawTarget, x.Request.Path = []byte("GET"), []byte("/"), []byte("/")
		x.Request.Host, x.Request.Scheme = []byte("api.test"), "https"
		x.Request.Header.Add(exchange.Field("Authorization", "DPoP "+raw))
		x.Request.Header.Add(exchange.Field("DPoP", proof))
		if w.build(t, step.cfg).Request(x) != policy.Next {
			got = x.Refusal().Status()
		}
		if got != step.want {
			t.Errorf("push %d: %d, want %d", n, got, step.want)
		}
	}
}
