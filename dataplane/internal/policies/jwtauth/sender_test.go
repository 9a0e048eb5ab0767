package jwtauth_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/certname"
	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/testkit/redistest"
)

// holder is a client with a certificate, as far as the policy sees it.
type holder struct {
	text  string // the certificate's SHA-256 in hex
	trust exchange.Trust
}

func (h holder) Certificate(string) (*exchange.Certificate, exchange.Trust) {
	if h.trust != exchange.Trusted {
		return nil, h.trust
	}
	return &exchange.Certificate{Fingerprint: [][32]byte{certname.Name{Kind: certname.Fingerprint, Text: h.text}.Hash()}}, h.trust
}

func (holder) Proves(string) bool { return false }

func TestTokensBoundToACertificate(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	p := w.build(t, static(t, k))
	sum := make([]byte, 32)
	sum[0], sum[31] = 0xab, 0x01
	hex := "ab" + zeros(60) + "01"
	raw := k.Token(nil, w.claims(map[string]any{"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum)}}))
	for name, tt := range map[string]struct {
		client exchange.Client
		want   int
	}{
		"without TLS":    {nil, 401},
		"without one":    {holder{hex, exchange.Missing}, 401},
		"with it":        {holder{hex, exchange.Trusted}, 200},
		"with another":   {holder{"ab" + zeros(62), exchange.Trusted}, 401},
		"not trusted":    {holder{hex, exchange.Distrusted}, 401},
		"nobody can say": {holder{hex, exchange.Unsure}, 503},
	} {
		for range 2 { // also when it is remembered
			x := &exchange.Exchange{Directory: w.directory, Client: tt.client}
			x.Timings.Received = w.now
			x.Request.Header.Add(exchange.Field("Authorization", "Bearer "+raw))
			got := 200
			if p.Request(x) != policy.Next {
				got = x.Refusal().Status()
			}
			if got != tt.want {
				t.Errorf("%s: %d, want %d", name, got, tt.want)
			}
		}
	}
}

func zeros(n int) string {
	return strings.Repeat("0", n)
}

// TestProofsOfPossession has a proof that is right, and every way in which one is not.
func TestProofsOfPossession(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	p := w.build(t, static(t, k))
	mine, other := tokentest.NewKey(t, jwk.ES256, ""), tokentest.NewKey(t, jwk.ES256, "")
	raw := k.Token(nil, w.claims(map[string]any{"cnf": map[string]any{"jkt": thumbprint(t, mine)}}))
	n := 0
	proof := func(by *tokentest.Key, header, more map[string]any) string {
		n++
		h := map[string]any{"typ": "dpop+jwt", "jwk": public(by)}
		maps.Copy(h, header)
		c := map[string]any{
			"jti": fmt.Sprint(n), "htm": "POST", "htu": "https://api.test/v1/a%20b", "iat": w.now.Unix(), "ath": token.Hash([]byte(raw)),
		}
		maps.Copy(c, more)
		return by.Token(h, c)
	}
	ask := func(scheme string, proofs ...string) int {
		x := &exchange.Exchange{Directory: w.directory}
		x.Timings.Received = w.now
		x.Request.Method, x.Request.RawTarget, x.Request.Path = []byte("POST"), []byte("/v1/a%20b?x=1"), []byte("/v1/a%20b")
		x.Request.Host, x.Request.Scheme = []byte("api.test"), "https"
		x.Request.Header.Add(exchange.Field("Authorization", scheme+" "+raw))
		for _, p := range proofs {
			x.Request.Header.Add(exchange.Field("DPoP", p))
		}
		if p.Request(x) != policy.Next {
			return x.Refusal().Status()
		}
		return 200
	}
	for name, tt := range map[string]struct {
		proofs []string
		want   int
	}{
		"right":                    {[]string{proof(mine, nil, nil)}, 200},
		"with another query":       {[]string{proof(mine, nil, map[string]any{"htu": "https://API.test:443/v1/a%20b?y#z"})}, 200},
		"a moment old":             {[]string{proof(mine, nil, map[string]any{"iat": w.now.Unix() - 59})}, 200},
		"none":                     {nil, 401},
		"two":                      {[]string{proof(mine, nil, nil), proof(mine, nil, nil)}, 401},
		"of another key":           {[]string{proof(other, nil, nil)}, 401},
		"signed by another key":    {[]string{proof(other, map[string]any{"jwk": public(mine)}, nil)}, 401},
		"another method":           {[]string{proof(mine, nil, map[string]any{"htm": "GET"})}, 401},
		"another path":             {[]string{proof(mine, nil, map[string]any{"htu": "https://api.test/v1"})}, 401},
		"another host":             {[]string{proof(mine, nil, map[string]any{"htu": "https://evil.test/v1/a%20b"})}, 401},
		"another scheme":           {[]string{proof(mine, nil, map[string]any{"htu": "http://api.test/v1/a%20b"})}, 401},
		"another token":            {[]string{proof(mine, nil, map[string]any{"ath": token.Hash([]byte("x"))})}, 401},
		"too old":                  {[]string{proof(mine, nil, map[string]any{"iat": w.now.Unix() - 62})}, 401},
		"from the future":          {[]string{proof(mine, nil, map[string]any{"iat": w.now.Unix() + 62})}, 401},
		"no id":                    {[]string{proof(mine, nil, map[string]any{"jti": ""})}, 401},
		"an ordinary token":        {[]string{proof(mine, map[string]any{"typ": "JWT"}, nil)}, 401},
		"an algorithm not allowed": {[]string{proof(mine, map[string]any{"alg": "ES384"}, nil)}, 401},
		"no key":                   {[]string{proof(mine, map[string]any{"jwk": nil}, nil)}, 401},
		"garbage":                  {[]string{"x"}, 401},
		"alg none":                 {[]string{proof(mine, map[string]any{"alg": "none"}, nil)}, 401},
		"a key off its curve":      {[]string{proof(mine, map[string]any{"jwk": with(public(mine), "y", public(other)["y"])}, nil)}, 401},
		"a point at nothing":       {[]string{proof(mine, map[string]any{"jwk": with(public(mine), "x", strings.Repeat("A", 43), "y", strings.Repeat("A", 43))}, nil)}, 401},
		"a key of another curve":   {[]string{proof(mine, map[string]any{"jwk": with(public(mine), "crv", "secp256k1")}, nil)}, 401},
		"a private key":            {[]string{proof(mine, map[string]any{"jwk": with(public(mine), "d", strings.Repeat("A", 43))}, nil)}, 401},
		"a secret":                 {[]string{proof(mine, map[string]any{"jwk": map[string]any{"kty": "oct", "k": strings.Repeat("A", 43)}}, nil)}, 401},
		"a key that is a URL":      {[]string{proof(mine, map[string]any{"jwk": nil, "jku": "https://evil.test/"}, nil)}, 401},
		"unencoded":                {[]string{proof(mine, map[string]any{"b64": false, "crit": []string{"b64"}}, nil)}, 401},
	} {
		if got := ask("DPoP", tt.proofs...); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
	again := proof(mine, nil, nil)
	if got := ask("DPoP", again); got != 200 {
		t.Errorf("first: %d", got)
	}
	if got := ask("DPoP", again); got != 401 {
		t.Errorf("again: %d", got)
	}
	if got := ask("Bearer", proof(mine, nil, nil)); got != 401 {
		t.Errorf("as a bearer token: %d", got)
	}
}

// with is a copy of members with others in their place.
func with(members map[string]any, pairs ...any) map[string]any {
	out := maps.Clone(members)
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

// shares answers with a store, as a group of its own for each gateway.
type shares struct {
	policy.Group
	store *hostsvc.SharedStore
}

func (s shares) Store(string) (*hostsvc.SharedStore, error) { return s.store, nil }

// TestProofsCountOnceForAllGateways has two that share a store, then none.
func TestProofsCountOnceForAllGateways(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	k, mine := tokentest.NewKey(t, jwk.EdDSA, ""), tokentest.NewKey(t, jwk.ES256, "")
	server := hostsvc.RedisServer{
		Name: "proofs", Addresses: []string{redis.Address}, Plain: true, Password: redistest.Password,
		DialTimeout: time.Second, Timeout: 2 * time.Second, MaxConnections: 4, IdleTimeout: time.Minute,
	}
	why := ""
	gateway := func(on policyv1.OnStoreError) func(id string) int {
		w := newWorld(t)
		store, err := hostsvc.NewSharedStore(w.host.RedisPool(server, nil), [][]byte{make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		w.group = shares{store: store}
		cfg := static(t, k)
		cfg.ReplayStore, cfg.OnStoreError = "proofs", on
		p := w.build(t, cfg)
		if _, waits := p.(policy.Waiter); !waits {
			t.Error("proofs wait for a store, and nobody is told")
		}
		raw := k.Token(nil, w.claims(map[string]any{"cnf": map[string]any{"jkt": thumbprint(t, mine)}}))
		return func(id string) int {
			x := &exchange.Exchange{Directory: w.directory}
			x.Timings.Received = w.now
			x.Request.Method, x.Request.RawTarget, x.Request.Path = []byte("GET"), []byte("/"), []byte("/")
			x.Request.Host, x.Request.Scheme = []byte("api.test"), "https"
			x.Request.Header.Add(exchange.Field("Authorization", "DPoP "+raw))
			x.Request.Header.Add(exchange.Field("DPoP", mine.Token(map[string]any{"typ": "dpop+jwt", "jwk": public(mine)}, map[string]any{
				"jti": id, "htm": "GET", "htu": "https://api.test/", "iat": w.now.Unix(), "ath": token.Hash([]byte(raw)),
			})))
			if p.Request(x) != policy.Next {
				why = x.Refusal().Reason()
				return x.Refusal().Status()
			}
			return 200
		}
	}
	local, strict := gateway(policyv1.OnStoreError_ON_STORE_ERROR_LOCAL), gateway(policyv1.OnStoreError_ON_STORE_ERROR_DENY)
	step := func(name string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	step("one", local("1"), 200)
	step("one at the other", strict("1"), 401)
	step("two", strict("2"), 200)
	step("two at the other", local("2"), 401)
	redis.Stop()
	step("without the store", local("3"), 200)
	step("without the store, again", local("3"), 401)
	step("without the store, strictly", strict("3"), 503)
	if why != "replay_store_unavailable" {
		t.Errorf("the log says %q without the store", why)
	}
	step("without the store, known before", strict("2"), 401)
}

func public(k *tokentest.Key) map[string]any {
	m := k.Members()
	delete(m, "kid")
	return m
}

func thumbprint(t *testing.T, k *tokentest.Key) string {
	t.Helper()
	b, err := json.Marshal(public(k))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jwk.Parse(string(b))
	if err != nil {
		t.Fatal(err)
	}
	print, _ := keys[0].Thumbprint()
	return print
}
