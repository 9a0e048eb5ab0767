package scenario_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"keyward.dev/e2e/harness"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

func byToken(token string) *syncv1.EnrolRequest {
	return &syncv1.EnrolRequest{Attestation: &syncv1.EnrolRequest_JoinToken{JoinToken: token}}
}

func idOf(joinToken string) string { return strings.Split(joinToken, "_")[1] }

// used answers how many uses of a join token are gone.
func used(t *testing.T, c *harness.Cluster, joinToken string) int {
	t.Helper()
	var list struct {
		Tokens []struct {
			ID   string `json:"id"`
			Used int    `json:"used"`
		} `json:"tokens"`
	}
	if err := c.REST(http.MethodGet, "/v1/groups/default/join-tokens", "").JSON(&list); err != nil {
		t.Fatal(err)
	}
	for _, token := range list.Tokens {
		if token.ID == idOf(joinToken) {
			return token.Used
		}
	}
	t.Fatalf("join token %s is not listed", idOf(joinToken))
	return 0
}

// TestJoinTokensLetInWhatTheyShould walks through every reason to refuse one.
func TestJoinTokensLetInWhatTheyShould(t *testing.T) {
	t.Parallel()
	c, other := harness.New(t, harness.Options{}), harness.New(t, harness.Options{})
	good := c.JoinToken("default", 1)
	pin := harness.Pin(good)

	key := harness.NewKey(t)
	first, err := c.Enrol(pin, key, byToken(good))
	if err != nil {
		t.Fatalf("a good token: %v", err)
	}
	for range 3 {
		again, err := c.Enrol(pin, key, byToken(good))
		if err != nil {
			t.Fatalf("the same key again: %v", err)
		}
		if again.ID(t) != first.ID(t) {
			t.Errorf("the same key became %v, was %v", again.ID(t), first.ID(t))
		}
	}
	if n := used(t, c, good); n != 1 {
		t.Errorf("enrolling one key four times cost %d uses, want 1", n)
	}
	if n := len(c.Gateways("default")); n != 1 {
		t.Errorf("enrolling one key four times made %d gateways", n)
	}

	expired := c.Create("/v1/groups/default/join-tokens", "{uses: 5, ttl: 1s}")
	deleted := c.JoinToken("default", 5)
	if a := c.REST(http.MethodDelete, "/v1/groups/default/join-tokens/"+idOf(deleted), ""); a.Status/100 != 2 {
		t.Fatalf("delete join token: %d %s", a.Status, a.Body)
	}
	last := deleted[len(deleted)-80:]
	altered := strings.Replace(deleted, last[:12], strings.Repeat("0", 12), 1)
	foreign := other.JoinToken("default", 5)
	foreign = foreign[:strings.LastIndexByte(foreign, '_')+1] + pin // with our root's hash, so that it gets as far as being looked at
	awaitPast(t, time.Now().Add(1100*time.Millisecond))
	for _, refused := range []struct {
		name, token string
		code        codes.Code
		text        string
	}{
		{"used up", good, codes.PermissionDenied, "used"},
		{"expired", expired, codes.Unauthenticated, "expired"},
		{"deleted", deleted, codes.Unauthenticated, "not valid"},
		{"with another secret", altered, codes.Unauthenticated, "not valid"},
		{"of another installation", foreign, codes.Unauthenticated, "not valid"},
		{"junk", "kwj_", codes.Unauthenticated, "not valid"},
		{"empty", "", codes.Unauthenticated, "not valid"},
	} {
		_, err := c.Enrol(pin, harness.NewKey(t), byToken(refused.token))
		wantStatus(t, "a token "+refused.name, err, refused.code, refused.text)
	}
	if n := len(c.Gateways("default")); n != 1 {
		t.Errorf("refused tokens made %d gateways", n-1)
	}
	t.Run("a gateway says why it cannot join", func(t *testing.T) {
		for _, refused := range []struct{ token, text string }{{good, "used"}, {expired, "expired"}, {deleted, "not valid"}} {
			g := c.NewGateway(refused.token)
			g.Start()
			g.AwaitOutput(10*time.Second, refused.text)
			if _, err := g.NotReady(); err != nil {
				t.Error(err)
			}
			g.Kill()
		}
	})
	t.Run("a gateway does not join an installation with another root", func(t *testing.T) {
		g := c.NewGateway(other.JoinToken("default", 1))
		g.Start()
		g.AwaitOutput(10*time.Second, "pinned")
		g.Kill()
	})
}

const (
	clusterIssuer   = "https://kubernetes.test"
	clusterAudience = "keyward"
)

// cluster signs service-account tokens as a Kubernetes API server does.
type cluster struct{ key *ecdsa.PrivateKey }

func (k cluster) jwks(t *testing.T) []byte {
	t.Helper()
	raw, err := k.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": encode(raw[1:33]), "y": encode(raw[33:65]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (k cluster) token(t *testing.T, change map[string]any) string {
	t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": clusterIssuer, "aud": []string{clusterAudience}, "sub": "system:serviceaccount:edge:gateway",
		"exp": now.Add(time.Hour).Unix(), "nbf": now.Add(-time.Second).Unix(), "iat": now.Unix(),
		"kubernetes.io": map[string]any{"namespace": "edge", "serviceaccount": map[string]any{"name": "gateway"}},
	}
	maps.Copy(claims, change)
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := encode(map[string]string{"alg": "ES256", "kid": "k1", "typ": "JWT"}) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// TestServiceAccountsJoin lets gateways in by tokens of a Kubernetes cluster, real ones but for the cluster.
func TestServiceAccountsJoin(t *testing.T) {
	t.Parallel()
	kubernetes := cluster{harness.NewKey(t)}
	dir := t.TempDir()
	jwks, tokenFile := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "token")
	write := func(path string, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(jwks, kubernetes.jwks(t))
	write(tokenFile, []byte(kubernetes.token(t, nil)))
	c := harness.New(t, harness.Options{ReplicaArgs: []string{
		"--k8s-issuer", clusterIssuer, "--k8s-audience", clusterAudience, "--k8s-jwks-file", jwks, "--k8s-allow", "default=edge/gateway",
	}})
	c.CreateGroup("other")
	revision := c.Apply(withUpstream("127.0.0.1:9"))
	pin := harness.Pin(c.JoinToken("default", 1))
	g := c.NewGatewayEnv(nil, "--service-account-token-file", tokenFile, "--root-spki", pin)
	g.Start()
	g.AwaitReady()
	g.AwaitRevision(revision)
	if got := c.Gateways("default"); len(got) != 1 || got[0].Attestor != "kubernetes" {
		t.Errorf("gateways = %+v, want one that kubernetes attests", got)
	}
	account := func(namespace, name string) map[string]any {
		return map[string]any{
			"sub":           "system:serviceaccount:" + namespace + ":" + name,
			"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": name}},
		}
	}
	for _, refused := range []struct {
		name   string
		signer cluster
		change map[string]any
		group  string
	}{
		{"audience", kubernetes, map[string]any{"aud": "api"}, ""},
		{"issuer", kubernetes, map[string]any{"iss": "https://elsewhere.test"}, ""},
		{"expired", kubernetes, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}, ""},
		{"namespace", kubernetes, account("prod", "gateway"), ""},
		{"account", kubernetes, account("edge", "other"), ""},
		{"sub of another namespace", kubernetes, map[string]any{"sub": "system:serviceaccount:prod:gateway"}, ""},
		{"signature", cluster{harness.NewKey(t)}, nil, ""},
		{"group", kubernetes, nil, "other"},
	} {
		_, err := c.Enrol(pin, harness.NewKey(t), &syncv1.EnrolRequest{
			Group: refused.group, Attestation: &syncv1.EnrolRequest_ServiceAccountJwt{ServiceAccountJwt: refused.signer.token(t, refused.change)},
		})
		wantStatus(t, "wrong "+refused.name, err, codes.Unauthenticated, "attestation refused")
	}
	if n := len(c.Gateways("default")) + len(c.Gateways("other")); n != 1 {
		t.Errorf("there are %d gateways, want 1", n)
	}
}
