package secretsource_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/sigv4test"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/vaulttest"
)

// backend is a place with secrets, and how it is reached: by a setting of the operator, or a provider of the group.
type backend struct {
	setting  string
	provider *configv1.SecretProvider
	ca       string // PEM
	scheme   string
	// put writes the fields of a secret; hidden is one that may not be read.
	put    func(path string, fields map[string]any)
	remove func(path string)
	hidden string
	stop   func()
	start  func()
	// secrets are what nobody must find in a log.
	secrets []string
}

// apply writes resources in one change.
func (r *replica) apply(t *testing.T, group string, ms ...proto.Message) error {
	t.Helper()
	req := configsvc.Request{Actor: "test", Action: "resources.apply", Group: group}
	for _, m := range ms {
		kind := certs.Kind
		switch m.(type) {
		case *configv1.SecretProvider:
			kind = secretplace.Kind
		case *configv1.CaCertificate:
			kind = certs.KindCA
		}
		req.Changes = append(req.Changes, admission.Change{Kind: kind, Name: m.(interface{ GetName() string }).GetName(), Message: m})
	}
	_, err := r.Write(t.Context(), req)
	return err
}

func elsewhere(reference string) *configv1.Certificate {
	c := referring("web", "")
	c.Current.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Ref{Ref: reference}}
	return c
}

func plain(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

// conform goes through the life of a reference to a place: what every provider has in common.
func conform(t *testing.T, b backend) {
	t.Helper()
	w := newWorld(t)
	r := w.replicaWith(t, strings.Fields(b.setting)...)
	var base []proto.Message
	if b.provider != nil {
		base = append(base, &configv1.CaCertificate{Name: "place", Certificates: b.ca}, b.provider)
	}
	pem := func(c *certtest.Cert) map[string]any {
		return map[string]any{"pem": c.KeyPEM(t) + c.PEM(), "number": 7}
	}
	first := certtest.SelfSigned(t, "first", certtest.Names("web.test"))
	b.put("team/web", pem(first))
	b.put("elsewhere/web", pem(first))
	refer := func(rest string) error {
		t.Helper()
		return r.apply(t, "g", append(base, elsewhere("{"+b.scheme+"://place/"+rest+"}"))...)
	}
	run := func() string {
		t.Helper()
		w.pass(time.Minute)
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, record := w.state(t)
		return id(record)
	}
	for _, rest := range []string{"web#absent", "absent#pem", "web#number", b.hidden + "#pem"} {
		if err := refer(rest); err != nil {
			t.Fatalf("%s: %v", rest, err)
		}
		if got := run(); got != "" {
			t.Errorf("%s: %q was read", rest, got)
		}
	}
	if err := refer("../elsewhere/web#pem"); err == nil && run() != "" {
		t.Error("a reference left the prefix")
	}
	if err := refer("web#pem"); err != nil {
		t.Fatal(err)
	}
	if got := run(); got != first.ID() {
		t.Fatalf("%q was read, want %q", got, first.ID())
	}
	second := certtest.SelfSigned(t, "second", certtest.Names("web.test"))
	b.put("team/web", pem(second))
	if got := run(); got != second.ID() {
		t.Errorf("after it was rotated %q is kept, want %q", got, second.ID())
	}
	b.remove("team/web")
	if got := run(); got != second.ID() {
		t.Errorf("after it was removed %q is kept", got)
	}
	b.put("team/web", pem(second))
	b.stop()
	if got := run(); got != second.ID() {
		t.Errorf("while nobody answers %q is kept", got)
	}
	w.pass(3 * time.Hour)
	if got := run(); got != "" {
		t.Errorf("when nobody has answered for too long %q is kept", got)
	}
	b.start()
	testkit.Await(t, testkit.Deadline, func() error {
		if got := run(); got != second.ID() {
			return fmt.Errorf("%q was read, want %q", got, second.ID())
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range append(b.secrets, strings.Split(second.KeyPEM(t), "\n")[1]) {
		if strings.Contains(w.log.String(), s) {
			t.Error("the log has a secret")
		}
	}
}

// vaultBackend is a real Vault with version 2 of the KV engine, which is all that the program has.
func vaultBackend(t *testing.T) (*vaulttest.Server, backend) {
	t.Helper()
	v := vaulttest.Start(t)
	v.Write("sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	const data = "kv/data/"
	v.Write("sys/policies/acl/team", map[string]any{"policy": `
path "` + data + `*" { capabilities = ["read"] }
path "` + data + `team/hidden" { capabilities = ["deny"] }
path "pki/issue/web" { capabilities = ["update"] }`})
	ca, err := os.ReadFile(v.CA)
	if err != nil {
		t.Fatal(err)
	}
	put := func(path string, fields map[string]any) { v.Write(data+path, map[string]any{"data": fields}) }
	put("team/hidden", map[string]any{"pem": "x"})
	return v, backend{
		ca: string(ca), scheme: "vault", hidden: "hidden", put: put, stop: v.Stop,
		remove: func(path string) { put(path, map[string]any{"other": "x"}) },
		start: func() {
			v.Restart()
			v.Unseal()
		},
	}
}

// made is a provider that a tenant made, with bounds like those of the settings in these tests.
func made(p *configv1.SecretProvider) *configv1.SecretProvider {
	p.Name, p.Refresh, p.StaleBound = "place", durationpb.New(time.Minute), durationpb.New(2*time.Hour)
	return p
}

func TestVaultConforms(t *testing.T) {
	t.Parallel()
	t.Run("the operator's", func(t *testing.T) {
		t.Parallel()
		v, b := vaultBackend(t)
		file, token := filepath.Join(t.TempDir(), "token"), v.Issue("team", time.Hour, time.Hour)
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		b.secrets = []string{token}
		b.setting = fmt.Sprintf("place=vault:%s/kv?prefix=team&groups=g&refresh=1m&stale=2h&ca=%s&token-file=%s", v.Address, v.CA, file)
		conform(t, b)
	})
	t.Run("a tenant's with a token", func(t *testing.T) {
		t.Parallel()
		v, b := vaultBackend(t)
		token := v.Issue("team", time.Hour, time.Hour)
		b.secrets = []string{token}
		b.provider = made(&configv1.SecretProvider{Vault: &configv1.VaultProvider{
			Address: v.Address, Mount: "kv", KvVersion: 2, Prefix: "team", Token: plain(token), Ca: []string{"place"},
		}})
		conform(t, b)
	})
	t.Run("a tenant's with a role", func(t *testing.T) {
		t.Parallel()
		v, b := vaultBackend(t)
		role, secret := v.AppRole("team", time.Minute, time.Hour)
		b.secrets = []string{secret}
		b.provider = made(&configv1.SecretProvider{Vault: &configv1.VaultProvider{
			Address: v.Address, Mount: "kv", Prefix: "team", Ca: []string{"place"},
			Approle: &configv1.VaultAppRole{RoleId: role, SecretId: plain(secret)},
		}, Networks: []string{"127.0.0.1/32"}})
		conform(t, b)
	})
}

// amazon is as much of AWS Secrets Manager as reading needs. It checks signatures.
type amazon struct {
	mu      sync.Mutex
	secrets map[string]string // guarded by mu
	down    bool              // guarded by mu
	denied  []string          // guarded by mu: what was wrong with signatures
	token   string
}

const (
	awsAccess = "AKIDEXAMPLE"
	awsSecret = "CANARY-an-example-of-a-secret-key"
	awsToken  = "CANARY-an-example-of-a-session-token"
)

// ServeHTTP implements http.Handler.
func (a *amazon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	signer := sigv4test.Signer{Access: awsAccess, Secret: awsSecret, Region: "eu-central-1", Service: "secretsmanager"}
	err := signer.Verify(r, body)
	if err == nil && r.Header.Get("X-Amz-Security-Token") != a.token {
		err = errors.New("another session token")
	}
	var in struct {
		SecretID string `json:"SecretId"`
	}
	switch {
	case err != nil:
		a.denied = append(a.denied, err.Error())
		refuse(w, http.StatusBadRequest, "InvalidSignatureException")
	case a.down:
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable")
	case r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" || json.Unmarshal(body, &in) != nil:
		refuse(w, http.StatusBadRequest, "ValidationException")
	case strings.HasSuffix(in.SecretID, "hidden"):
		refuse(w, http.StatusBadRequest, "AccessDeniedException")
	case a.secrets[in.SecretID] == "":
		refuse(w, http.StatusBadRequest, "ResourceNotFoundException")
	default:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(map[string]any{"Name": in.SecretID, "SecretString": a.secrets[in.SecretID]})
	}
}

// refuse answers as the service does, and repeats what it was sent, as it should not.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Amzn-Errortype", code)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"__type": code, "message": "you sent " + awsSecret + awsToken})
}

func (a *amazon) backend(t *testing.T) backend {
	t.Helper()
	set := func(change func()) {
		a.mu.Lock()
		defer a.mu.Unlock()
		change()
	}
	a.secrets = map[string]string{}
	t.Cleanup(func() {
		if len(a.denied) > 0 {
			t.Errorf("signatures: %v", a.denied)
		}
	})
	return backend{
		scheme: "aws", hidden: "team/hidden", secrets: []string{awsSecret, awsToken},
		put: func(path string, fields map[string]any) {
			text, _ := json.Marshal(fields)
			set(func() { a.secrets[strings.TrimPrefix(path, "team/")] = string(text); a.secrets[path] = string(text) })
		},
		remove: func(path string) { set(func() { a.secrets[strings.TrimPrefix(path, "team/")] = "" }) },
		stop:   func() { set(func() { a.down = true }) }, start: func() { set(func() { a.down = false }) },
	}
}

func TestATenantsSecretsManagerConforms(t *testing.T) {
	t.Parallel()
	a := &amazon{token: awsToken}
	b := a.backend(t)
	server := httptest.NewTLSServer(a)
	defer server.Close()
	b.ca = certtest.Block("CERTIFICATE", server.Certificate().Raw)
	b.provider = made(&configv1.SecretProvider{Aws: &configv1.AwsProvider{
		Region: "eu-central-1", AccessKeyId: awsAccess, SecretAccessKey: plain(awsSecret), SessionToken: plain(awsToken),
		Endpoint: server.URL, Ca: []string{"place"},
	}})
	conform(t, b)
}

// TestTheOperatorsSecretsManagerConforms is not parallel: its credentials are those of the environment.
func TestTheOperatorsSecretsManagerConforms(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", awsAccess)
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsSecret)
	a := &amazon{}
	b := a.backend(t)
	server := httptest.NewServer(a)
	defer server.Close()
	b.setting = "place=aws:eu-central-1?groups=g&refresh=1m&stale=2h&endpoint=" + server.URL
	conform(t, b)
}

// TestATenantsProviderUsesNothingOfTheProcess has the environment offer credentials and places; it is not parallel for it.
func TestATenantsProviderUsesNothingOfTheProcess(t *testing.T) {
	var asked []string
	trap := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Path) }))
	defer trap.Close()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDOPERATOR", "AWS_SECRET_ACCESS_KEY": "CANARY-operator", "AWS_SESSION_TOKEN": "CANARY-operator",
		"AWS_ENDPOINT_URL": trap.URL, "AWS_ENDPOINT_URL_SECRETS_MANAGER": trap.URL, "AWS_EC2_METADATA_SERVICE_ENDPOINT": trap.URL,
		"HTTPS_PROXY": trap.URL, "HTTP_PROXY": trap.URL, "ALL_PROXY": trap.URL,
		"VAULT_ADDR": trap.URL, "VAULT_TOKEN": "CANARY-operator", "VAULT_PROXY_ADDR": trap.URL, "VAULT_HTTP_PROXY": trap.URL,
		"VAULT_SKIP_VERIFY": "true", "VAULT_HEADERS": `{"X-Own": "CANARY-operator"}`,
	} {
		t.Setenv(name, value)
	}
	var seen []string
	place := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, fmt.Sprint(r.Header))
		w.WriteHeader(http.StatusForbidden)
	}))
	defer place.Close()
	w := newWorld(t)
	r := w.replicaWith(t)
	ca := &configv1.CaCertificate{Name: "place", Certificates: certtest.Block("CERTIFICATE", place.Certificate().Raw)}
	for _, p := range []*configv1.SecretProvider{
		{Vault: &configv1.VaultProvider{Address: place.URL, Mount: "kv", Token: plain("hvs.tenant"), Ca: []string{"place"}}},
		{Aws: &configv1.AwsProvider{Region: "eu-central-1", AccessKeyId: awsAccess, SecretAccessKey: plain(awsSecret), Endpoint: place.URL, Ca: []string{"place"}}},
	} {
		scheme := "vault"
		if p.GetAws() != nil {
			scheme = "aws"
		}
		before := len(seen)
		if err := r.apply(t, "g", ca, made(p), elsewhere("{"+scheme+"://place/web#pem}")); err != nil {
			t.Fatal(err)
		}
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(seen) == before {
			t.Errorf("%s: the place was not asked", scheme)
		}
	}
	if len(asked) > 0 {
		t.Errorf("what the environment names was asked for %q", asked)
	}
	for _, headers := range seen {
		if strings.Contains(headers, "CANARY-operator") || strings.Contains(headers, "AKIDOPERATOR") {
			t.Errorf("the place was sent what is the operator's: %s", headers)
		}
	}
}
