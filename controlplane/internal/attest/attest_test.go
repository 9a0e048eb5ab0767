package attest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/mtls"
)

type tokens struct {
	rows map[string]store.JoinToken
	err  error
	mac  error
}

func (f tokens) JoinToken(_ context.Context, id string) (store.JoinToken, error) {
	if f.err != nil {
		return store.JoinToken{}, f.err
	}
	row, ok := f.rows[id]
	if !ok {
		return row, store.ErrNotFound
	}
	return row, nil
}

func (f tokens) VerifyJoinToken(context.Context, store.JoinToken) error { return f.mac }

func TestJoinToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	text := attest.NewTokenText(mtls.SPKI{1})
	row := store.JoinToken{ID: text.ID, Group: "pay", SecretHash: text.SecretHash(), Uses: 1, ExpiresAt: now.Add(time.Hour)}
	good := tokens{rows: map[string]store.JoinToken{text.ID: row}}
	other := text
	other.Secret = attest.NewTokenText(mtls.SPKI{}).Secret
	unknown := attest.NewTokenText(mtls.SPKI{1})
	tests := []struct {
		name    string
		tokens  tokens
		token   string
		group   string
		at      time.Time
		want    error
		message string
	}{
		{name: "good", tokens: good, token: text.String()},
		{name: "good with group", tokens: good, token: text.String(), group: "pay"},
		{name: "other group", tokens: good, token: text.String(), group: "shop", want: attest.ErrRefused, message: "another group"},
		{name: "wrong secret", tokens: good, token: other.String(), want: attest.ErrRefused, message: "not valid"},
		{name: "unknown or deleted", tokens: good, token: unknown.String(), want: attest.ErrRefused, message: "not valid"},
		{name: "junk", tokens: good, token: "kwj_x", want: attest.ErrRefused, message: "not valid"},
		{name: "expired", tokens: good, token: text.String(), at: now.Add(time.Hour), want: attest.ErrRefused, message: "expired"},
		{name: "database down", tokens: tokens{err: errors.New("down")}, token: text.String(), want: attest.ErrUnavailable},
		{name: "row put there", tokens: tokens{rows: good.rows, mac: errors.New("bad mac")}, token: text.String(), want: attest.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at := now
			if !tt.at.IsZero() {
				at = tt.at
			}
			a := attest.NewJoinTokens(tt.tokens, func() time.Time { return at })
			got, err := a.Attest(t.Context(), attest.Evidence{Token: tt.token, Group: tt.group})
			if !errors.Is(err, tt.want) || (err != nil && !strings.Contains(err.Error(), tt.message)) {
				t.Fatalf("Attest error = %v, want %v %q", err, tt.want, tt.message)
			}
			if tt.want == nil && (got.Group != "pay" || got.JoinToken != text.ID) {
				t.Errorf("Attest = %+v", got)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(attest.NewTokenText(mtls.SPKI{1}).String())
	f.Add("kwj___")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := attest.ParseToken(s)
		if err == nil && text.String() != s {
			t.Errorf("ParseToken(%q) = %q", s, text)
		}
	})
}

const (
	issuer   = "https://cluster.test"
	audience = "keyward"
)

type cluster struct {
	key *ecdsa.PrivateKey
	kid string
}

func newCluster(t *testing.T, kid string) cluster {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return cluster{key: key, kid: kid}
}

func (c cluster) jwks(t *testing.T) []byte {
	t.Helper()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.key.Public(), KeyID: c.kid, Algorithm: "ES256", Use: "sig"}}}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (c cluster) token(t *testing.T, now time.Time, change func(map[string]any)) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithHeader("kid", c.kid)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: c.key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{
		"iss": issuer, "aud": []string{audience}, "sub": "system:serviceaccount:edge:gateway",
		"exp": now.Add(time.Hour).Unix(), "nbf": now.Unix(), "iat": now.Unix(),
		"kubernetes.io": map[string]any{"namespace": "edge", "serviceaccount": map[string]any{"name": "gateway"}, "pod": map[string]any{"name": "gw-0"}},
	}
	if change != nil {
		change(m)
	}
	s, err := jwt.Signed(signer).Claims(m).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func attestor(t *testing.T, fetch attest.Fetch, now func() time.Time, rules ...string) *attest.Kubernetes {
	t.Helper()
	var parsed []attest.Rule
	for _, s := range rules {
		r, err := attest.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, r)
	}
	k, err := attest.NewKubernetes(attest.KubernetesConfig{
		Issuer: issuer, Audience: audience, Keys: attest.NewKeySet(fetch, now), Rules: parsed, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	c, foreign := newCluster(t, "k1"), newCluster(t, "k1")
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, c.jwks(t), 0o600); err != nil {
		t.Fatal(err)
	}
	set := func(k string, v any) func(map[string]any) { return func(m map[string]any) { m[k] = v } }
	tests := []struct {
		name  string
		token string
		group string
		want  string
	}{
		{name: "good", token: c.token(t, now, nil)},
		{name: "good with group", token: c.token(t, now, nil), group: "pay"},
		{name: "group without rule", token: c.token(t, now, nil), group: "shop", want: "no rule"},
		{name: "other account", token: c.token(t, now, func(m map[string]any) {
			m["sub"] = "system:serviceaccount:edge:other"
			m["kubernetes.io"] = map[string]any{"namespace": "edge", "serviceaccount": map[string]any{"name": "other"}}
		}), want: "no rule"},
		{name: "claims disagree", token: c.token(t, now, set("sub", "system:serviceaccount:other:gateway")), want: "not bound"},
		{name: "a user", token: c.token(t, now, set("sub", "admin")), want: "not a service account"},
		{name: "issuer", token: c.token(t, now, set("iss", "https://other.test")), want: "issuer or audience"},
		{name: "audience", token: c.token(t, now, set("aud", "api")), want: "issuer or audience"},
		{name: "no audience", token: c.token(t, now, func(m map[string]any) { delete(m, "aud") }), want: "issuer or audience"},
		{name: "expired", token: c.token(t, now, set("exp", now.Add(-time.Minute).Unix())), want: "not valid now"},
		{name: "no expiry", token: c.token(t, now, func(m map[string]any) { delete(m, "exp") }), want: "does not expire"},
		{name: "not yet", token: c.token(t, now, set("nbf", now.Add(time.Minute).Unix())), want: "not valid now"},
		{name: "other key under the same id", token: foreign.token(t, now, nil), want: "signature is wrong"},
		{name: "unknown key", token: newCluster(t, "k2").token(t, now, nil), want: "no such key"},
		{name: "algorithm none", token: "eyJhbGciOiJub25lIn0.e30.", want: "does not parse"},
		{name: "junk", token: "junk", want: "does not parse"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := attestor(t, attest.FromFile(file), func() time.Time { return now }, "pay=edge/gateway")
			got, err := k.Attest(t.Context(), attest.Evidence{Token: tt.token, Group: tt.group})
			if tt.want == "" && (err != nil || got.Group != "pay" || got.By != "edge/gateway/gw-0" || got.JoinToken != "") {
				t.Errorf("Attest = %+v, %v", got, err)
			}
			if tt.want != "" && (!errors.Is(err, attest.ErrRefused) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Attest error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestServiceAccountOfSeveralGroupsHasToChoose(t *testing.T) {
	t.Parallel()
	now, c := time.Now(), newCluster(t, "k1")
	fetch := func(context.Context) ([]byte, error) { return c.jwks(t), nil }
	k := attestor(t, fetch, time.Now, "pay=edge/gateway", "shop=edge/gateway")
	if _, err := k.Attest(t.Context(), attest.Evidence{Token: c.token(t, now, nil)}); !errors.Is(err, attest.ErrRefused) {
		t.Errorf("Attest without a group = %v, want ErrRefused", err)
	}
	got, err := k.Attest(t.Context(), attest.Evidence{Token: c.token(t, now, nil), Group: "shop"})
	if err != nil || got.Group != "shop" {
		t.Errorf("Attest = %+v, %v", got, err)
	}
}

func TestIssuerOutageIsNotARefusal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	c := newCluster(t, "k1")
	down, asked := true, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(c.jwks(t))
	}))
	t.Cleanup(srv.Close)
	k := attestor(t, attest.FromURL(srv.URL, srv.Client()), clock, "pay=edge/gateway")
	try := func(c cluster) error {
		_, err := k.Attest(t.Context(), attest.Evidence{Token: c.token(t, now, nil)})
		return err
	}
	for range 5 {
		if err := try(c); !errors.Is(err, attest.ErrUnavailable) {
			t.Fatalf("Attest during an outage = %v, want ErrUnavailable", err)
		}
	}
	if asked != 1 {
		t.Errorf("the issuer was asked %d times without a pause", asked)
	}
	down = false
	now = now.Add(2 * time.Second)
	if err := try(c); err != nil {
		t.Errorf("Attest after the outage = %v", err)
	}
	old := c
	c = newCluster(t, "k2")
	now = now.Add(11 * time.Second)
	if err := try(c); err != nil {
		t.Errorf("Attest with a key that the issuer has just added = %v", err)
	}
	asked = 0
	for range 5 {
		if err := try(old); !errors.Is(err, attest.ErrRefused) {
			t.Fatalf("Attest with a key that the issuer dropped = %v, want ErrRefused", err)
		}
	}
	if asked != 0 {
		t.Errorf("unknown key ids made us ask %d times", asked)
	}
	down = true
	now = now.Add(2 * time.Hour)
	if err := try(c); err != nil {
		t.Errorf("Attest with a known key during an outage = %v", err)
	}
}

func TestParseRule(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "pay", "pay=", "pay=ns", "=ns/sa", "pay=/sa", "pay=ns/", "pay=ns/a/b", "pay=*/sa", "pay=ns/*"} {
		if r, err := attest.ParseRule(s); err == nil {
			t.Errorf("ParseRule(%q) = %+v", s, r)
		}
	}
}
