package charts_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"keyward.dev/shared/testkit/pgserver"
)

const (
	databaseName = "keyward"
	letters      = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// TestDefaultsStartTheRealPrograms installs both charts with no value set: database role made beforehand, admin
// certificate of the internal authority, gateways with a join token.
func TestDefaultsStartTheRealPrograms(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, pgserver.Config{})
	password := pgserver.NewPassword()
	if err := server.Exec(t.Context(), databaseName, "create role keyward_runtime login password '"+password+"'"); err != nil {
		t.Fatal(err)
	}
	admin := adminToken()
	k := &kubelet{
		t: t,
		secrets: map[string]map[string]string{
			"keyward-database": {
				"url":       server.URLFor(databaseName, "keyward_runtime", password),
				"owner-url": server.URL(databaseName),
			},
			"keyward-kek":         {"kek": randomKey() + "\n"},
			"keyward-admin-token": {"token": admin + "\n"},
		},
	}
	control, bundle := k.installControlPlane()
	k.secrets["keyward-join-token"] = map[string]string{
		"token": operate(t, control.ports["admin"], bundle, admin, "join-token", "create", "--uses", "2"),
	}

	gateway := k.installGateway()
	if err := answers(t.Context(), "http://"+gateway.ports["http"]+"/", http.StatusForbidden); err != nil {
		t.Errorf("plain HTTP in a group that requires HTTPS: %v", err)
	}
	if out := operate(t, control.ports["admin"], bundle, admin, "gateways", "list"); !strings.Contains(out, "online") {
		t.Errorf("gateways list = %q, want one that is online", out)
	}
	k.stop(control)
	if err := answers(t.Context(), "http://"+gateway.ports["status"]+"/readyz", http.StatusOK); err != nil {
		t.Errorf("a gateway without its control plane: %v", err)
	}
	k.stop(gateway)
}

// TestSecretsAndServiceAccountStartTheRealPrograms installs both charts with every Secret there is a value for: a database
// that is verified by its own authority, a role that the migrate job makes, certificates for the admin API and for
// HTTPS, and gateways that join with their service account.
func TestSecretsAndServiceAccountStartTheRealPrograms(t *testing.T) {
	t.Parallel()
	databaseCA, certificate, key := certificateFor(t, "127.0.0.1")
	adminCA, adminCert, adminKey := certificateFor(t, "127.0.0.1")
	gatewayCA, gatewayCert, gatewayKey := certificateFor(t, "gateway.test")
	server := startPostgres(t, pgserver.Config{Certificate: certificate, Key: key})
	password := pgserver.NewPassword()
	cluster := newIssuer(t)
	admin := adminToken()
	k := &kubelet{
		t: t,
		secrets: map[string]map[string]string{
			"pg-app":              {"uri": verified(t, server.URLFor(databaseName, "gateway_rw", "an old one")), "password": password},
			"pg-runtime":          {"password": password},
			"web-certificates":    {"shop.pem": string(gatewayCert) + string(gatewayKey)},
			"pg-superuser":        {"uri": verified(t, server.URL(databaseName))},
			"pg-ca":               {"root.crt": string(databaseCA)},
			"kms":                 {"keyward.key": randomKey()},
			"first-token":         {"value": admin},
			"admin-certificate":   {"tls.crt": string(adminCert), "tls.key": string(adminKey)},
			"gateway-certificate": {"tls.crt": string(gatewayCert), "tls.key": string(gatewayKey)},
			"upstream-ca":         {"ca.crt": string(gatewayCA)},
		},
		accountToken: cluster.token(t, "keyward.example.com", namespace, "keyward-dataplane"),
	}
	control, bundle := k.installControlPlane(
		readValues(t, filepath.Join("testdata", controlPlaneChart, "external-secrets.values.yaml")),
		readValues(t, filepath.Join("testdata", controlPlaneChart, "database-password.values.yaml")),
		readValues(t, filepath.Join("testdata", controlPlaneChart, "service-account-join.values.yaml")),
		values("serviceAccountJoin.jwks.inline", cluster.jwks(t)),
	)
	if out := operate(t, control.ports["admin"], string(adminCA), admin, "groups", "list"); !strings.Contains(out, "default") {
		t.Errorf("groups list = %q, want default among them", out)
	}

	gateway := k.installGateway(
		readValues(t, filepath.Join("testdata", gatewayChart, "service-account-join.values.yaml")),
		values("join.serviceAccount.rootSPKI", pin(t, bundle)),
	)
	client := httpsClient(t, gatewayCA, gateway.ports["https"])
	response, err := client.Get("https://gateway.test/")
	if err != nil {
		t.Fatalf("request over HTTPS: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("a gateway of an empty group answers %s over HTTPS, want 404", response.Status)
	}
	k.stop(gateway)
	k.stop(control)
}

// installControlPlane renders the chart, runs its jobs and starts a replica. It returns the trust bundle that the
// bootstrap job prints.
func (k *kubelet) installControlPlane(vals ...map[string]any) (*container, string) {
	k.t.Helper()
	all := k.render(controlPlaneChart, vals...)
	migrate := find[*batchv1.Job](k.t, all, controlPlaneChart+"-migrate").Spec.Template.Spec
	bootstrap := find[*batchv1.Job](k.t, all, controlPlaneChart+"-bootstrap").Spec.Template.Spec
	var answer, again struct {
		Token       string `json:"token"`
		TrustBundle string `json:"trust_bundle"`
	}
	// Twice, as an upgrade does.
	k.run(migrate)
	if err := json.Unmarshal([]byte(k.run(bootstrap)), &answer); err != nil {
		k.t.Fatalf("what bootstrap printed: %v", err)
	}
	k.run(migrate)
	if err := json.Unmarshal([]byte(k.run(bootstrap)), &again); err != nil {
		k.t.Fatalf("what bootstrap printed the second time: %v", err)
	}
	if answer.TrustBundle == "" || answer != again || answer.Token != "" {
		k.t.Fatalf("bootstrap printed a token, or something else the second time")
	}
	control := k.start(find[*appsv1.Deployment](k.t, all, controlPlaneChart).Spec.Template.Spec)
	k.local = map[string]string{
		controlPlaneChart + ":sync":        control.ports["sync"],
		controlPlaneChart + "-admin:admin": control.ports["admin"],
	}
	return control, answer.TrustBundle
}

func (k *kubelet) installGateway(vals ...map[string]any) *container {
	k.t.Helper()
	all := k.render(gatewayChart, vals...)
	return k.start(find[*appsv1.Deployment](k.t, all, gatewayChart).Spec.Template.Spec)
}

func (k *kubelet) render(chart string, vals ...map[string]any) []runtime.Object {
	k.t.Helper()
	manifests, _, err := render(chart, vals...)
	if err != nil {
		k.t.Fatal(err)
	}
	all := mustObjects(k.t, manifests)
	k.objects = append(k.objects, all...)
	return all
}

// operate runs the command line against the admin API.
func operate(t *testing.T, address, bundle, token string, args ...string) string {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(bundle), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary(t, "keyward"), args...)
	cmd.Env = []string{"KEYWARD_ADDR=https://" + address, "KEYWARD_CACERT=" + ca, "KEYWARD_TOKEN=" + token}
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("keyward %s: %v: %s", strings.Join(args, " "), err, log.String())
	}
	return string(out)
}

// startPostgres starts a server with an empty database.
func startPostgres(t *testing.T, config pgserver.Config) *pgserver.Server {
	t.Helper()
	// Not t.TempDir: as root the server runs as another user, which could not enter it.
	dir, err := os.MkdirTemp("", "keyward-charts-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	config.Dir = filepath.Join(dir, "postgres")
	server, err := pgserver.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := server.Exec(t.Context(), "postgres", "create database "+databaseName); err != nil {
		t.Fatal(err)
	}
	return server
}

// verified asks for a verified connection by a URL that names no authority: that comes from the chart.
func verified(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "sslmode=verify-full"
	return u.String()
}

func randomKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

func adminToken() string {
	word := func(n int) string {
		var b strings.Builder
		for range n {
			i, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
			if err != nil {
				panic(err) // the system's source of randomness does not fail
			}
			b.WriteByte(letters[i.Int64()])
		}
		return b.String()
	}
	return "kwa_" + word(12) + "_" + word(32)
}

// pin is the hash of the root's public key, as docs/install.md has people compute it.
func pin(t *testing.T, bundle string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(bundle))
	if block == nil {
		t.Fatal("the trust bundle holds no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// issuer is a cluster that signs service-account tokens.
type issuer struct{ key *ecdsa.PrivateKey }

func newIssuer(t *testing.T) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{key}
}

func (i issuer) jwks(t *testing.T) string {
	t.Helper()
	point, err := i.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	set := map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256",
		"x": enc.EncodeToString(point[1:33]), "y": enc.EncodeToString(point[33:]),
	}}}
	return string(marshal(t, set))
}

// token is of the form that a cluster projects into a pod.
func (i issuer) token(t *testing.T, audience, namespace, account string) string {
	t.Helper()
	enc := base64.RawURLEncoding
	now := time.Now()
	signed := enc.EncodeToString(marshal(t, map[string]any{"alg": "ES256", "kid": "one"})) + "." + enc.EncodeToString(marshal(t, map[string]any{
		"iss": "https://kubernetes.default.svc.cluster.local",
		"aud": []string{audience},
		"sub": "system:serviceaccount:" + namespace + ":" + account,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace": namespace, "serviceaccount": map[string]any{"name": account}, "pod": map[string]any{"name": "pod-of-the-test"},
		},
	}))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + enc.EncodeToString(signature)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
