package scenario_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// signedBy is a token of a consumer that signs with a secret.
func signedBy(secret string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256"}`)) + "." + encode(fmt.Appendf(nil, `{"iss":"alice-app","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// TestSecretsOfCredentialsAreRead keeps the secret of a credential in a file: it is not there at first, then is, is replaced, and
// becomes something that nobody may have.
func TestSecretsOfCredentialsAreRead(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := harness.New(t, harness.Options{ReplicaArgs: []string{
		"--secret-provider", fmt.Sprintf("mounted=file:%s?groups=default&refresh=%s", root, refresh),
	}})
	mount := func(text string) {
		t.Helper()
		path := filepath.Join(root, "alice")
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	first, second := strings.Repeat("first-secret-", 3), strings.Repeat("second-secret-", 3)
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(fmt.Sprintf(`group: default
settings: {require_https: false}
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, policies: [{type: jwt-auth, config: {algorithms: HS256}}]}]
consumers: [{name: alice, credentials: [{name: app, type: jwt-auth, config: {issuer: alice-app, algorithm: HS256, key: "{file://mounted/alice}"}}]}]
`, harness.Echo(t))))
	answers := func(secret string, want int) error {
		if got, _ := g.Get(t, "a.test", "/", "Authorization", "Bearer "+signedBy(secret)); got != want {
			return fmt.Errorf("answered %d, want %d", got, want)
		}
		return nil
	}
	await := func(secret string, want int) {
		t.Helper()
		testkit.Await(t, refresh+6*time.Second, func() error { return answers(secret, want) })
	}
	if err := answers(first, http.StatusServiceUnavailable); err != nil {
		t.Errorf("what is not known is no refusal: %v", err)
	}
	mount(first + "\n")
	await(first, http.StatusOK)
	if err := answers(second, http.StatusUnauthorized); err != nil {
		t.Error(err)
	}
	mount(second)
	await(second, http.StatusOK)
	if err := answers(first, http.StatusUnauthorized); err != nil {
		t.Error(err)
	}
	mount(certtest.CA(t, "ca").Issue(t, "leaf").KeyPEM(t))
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_secret_references{group="default",state="failing"}`, 1)
	if err := answers(second, http.StatusOK); err != nil {
		t.Errorf("with a private key in its place: %v", err)
	}
	for where, text := range map[string]string{
		"the log of the control plane": string(c.Replicas[0].Output()), "the log of the gateway": string(g.Output()),
		"the credentials": string(c.REST(http.MethodGet, "/v1/groups/default/consumers/alice/credentials", "").Body),
		"an export":       string(c.REST(http.MethodGet, "/v1/groups/default:export", "").Body),
		"the audit trail": string(c.REST(http.MethodGet, "/v1/groups/default/audit-events", "").Body),
	} {
		if strings.Contains(text, "-secret-") {
			t.Errorf("%s has the secret", where)
		}
	}
}
