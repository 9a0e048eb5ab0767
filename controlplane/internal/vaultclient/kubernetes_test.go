package vaultclient_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/testkit/vaulttest"
)

// serviceAccountToken is a token as a cluster gives it to a pod.
func serviceAccountToken(t *testing.T, namespace, account string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:" + namespace + ":" + account,
		"aud": []string{"vault"}, "exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(-time.Minute).Unix(),
		"kubernetes.io": map[string]any{
			"namespace": namespace, "serviceaccount": map[string]any{"name": account, "uid": "uid-of-" + account},
		},
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// cluster reviews tokens as Kubernetes does, and knows one.
func cluster(t *testing.T, known, namespace, account string) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct{ Spec struct{ Token string } }
		_ = json.NewDecoder(r.Body).Decode(&review)
		status := map[string]any{"authenticated": false}
		if review.Spec.Token == known {
			status = map[string]any{"authenticated": true, "audiences": []string{"vault"}, "user": map[string]any{
				"username": "system:serviceaccount:" + namespace + ":" + account, "uid": "uid-of-" + account,
				"groups": []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace},
			}}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status})
	}))
	t.Cleanup(server.Close)
	return server
}

// TestKubernetesLogin has a real Vault, which has the token reviewed by a stand-in for the cluster.
func TestKubernetesLogin(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	text := serviceAccountToken(t, "gateways", "keyward")
	api := cluster(t, text, "gateways", "keyward")
	v.Write("sys/auth/cluster-1", map[string]any{"type": "kubernetes"})
	v.Write("auth/cluster-1/config", map[string]any{
		"kubernetes_host": api.URL, "disable_local_ca_jwt": true, "token_reviewer_jwt": text,
		"kubernetes_ca_cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})),
	})
	v.Write("auth/cluster-1/role/keyward", map[string]any{
		"bound_service_account_names": "keyward", "bound_service_account_namespaces": "gateways",
		"token_policies": v.Policy("transit", "k"), "token_ttl": "1m",
	})
	path := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	auth := vaultclient.Auth{Method: vaultclient.MethodKubernetes, Mount: "cluster-1", Role: "keyward", SecretFile: path}
	put(text)
	if err := write(t, client(t, v, auth)); err != nil {
		t.Errorf("the account that is let in: %v", err)
	}
	put(serviceAccountToken(t, "gateways", "keyward"))
	if err := write(t, client(t, v, auth)); !errors.Is(err, vaultclient.ErrNoLogin) {
		t.Errorf("a token that the cluster does not know: %v", err)
	}
}
