package scenario_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit/certtest"
)

// TestNothingSecretIsReadableAnywhere writes a canary and looks for it wherever somebody could look: tables, the
// database's files including its log, the processes' debug logs, API answers, errors, status and metrics.
func TestNothingSecretIsReadableAnywhere(t *testing.T) {
	t.Parallel()
	const canary = "CANARY7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"
	c := harness.New(t, harness.Options{})
	upstream := harness.Nginx(t)
	doc := strings.ReplaceAll(withUpstream(upstream), "alice-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY", canary)
	revision := c.Apply(doc)
	g := c.StartGateway("default")
	g.AwaitRevision(revision)
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", canary); code != http.StatusOK {
		t.Fatalf("with the key: %d %s", code, body)
	}
	joinToken := c.JoinToken("default", 1)
	secrets, keyAnswers := certificateSecrets(t, c)
	moreSecrets, moreAnswers := providerSecrets(t, c)
	secrets, keyAnswers = append(secrets, moreSecrets...), append(keyAnswers, moreAnswers...)
	g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: after-the-certificates}]"))
	secrets = append(secrets, canary)
	all := slices.Concat(secrets, []string{c.Token, joinToken})
	answers := append(keyAnswers,
		c.REST(http.MethodGet, "/v1/groups/default/consumers/alice/credentials/alice-1", ""),
		c.REST(http.MethodGet, "/v1/groups/default/consumers/alice/credentials", ""),
		c.REST(http.MethodGet, "/v1/groups/default:export", ""),
		c.REST(http.MethodGet, "/v1/groups/default/audit-events", ""),
		c.REST(http.MethodGet, "/v1/groups/default/revisions", ""),
		// A document that is wrong near the secret: the error must not repeat it.
		c.REST(http.MethodPost, "/v1/groups/default:apply", strings.ReplaceAll(doc, "key: \""+canary, "key: {bad: \""+canary+"\"}, x: \""+canary)),
	)
	for _, a := range answers {
		mustNotHold(t, "an answer of the API", a.Body, secrets...)
	}
	for _, addr := range []string{c.Replicas[0].Status + "/metrics", g.Status + "/metrics", g.Status + "/status"} {
		resp, err := http.Get("http://" + addr) //nolint:noctx // a test's own server on loopback
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		resp.Body.Close()
		mustNotHold(t, addr, body.Bytes(), secrets...)
	}
	_, recipient := c.RecoveryKey()
	file, said := c.BackupWhole(recipient)
	mustNotHold(t, "what backup says", []byte(said), all...)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mustNotHold(t, "a backup", whole, all...)
	for _, clear := range []string{"alice", "hello.test"} { // names are in the clear in the database, and not here
		mustNotHold(t, "a backup", whole, clear)
	}
	mustNotHold(t, "the control plane's log", c.Replicas[0].Output(), all...)
	mustNotHold(t, "the gateway's log", g.Output(), secrets...)
	for _, table := range c.Tables() {
		mustNotHold(t, "a table", table, all...)
	}
	if err := c.PG.Exec(t.Context(), "postgres", "checkpoint"); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(c.Dir, "postgres"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // files come and go under a running server
		}
		if b, err := os.ReadFile(path); err == nil {
			mustNotHold(t, path, b, all...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// certificateSecrets stores certificates in every way there is, also badly, and answers what must not be found of them: the
// passphrase, and the private keys as they were written, as PEM and as numbers; and everything that the API said.
func certificateSecrets(t *testing.T, c *harness.Cluster) (secrets []string, answers []harness.Answer) {
	t.Helper()
	const passphrase, wrong = "CANARY-open-sesame-4tR8wB1c", "CANARY-simsim-9pL4tR8w"
	a, b, dry := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b"), certtest.SelfSigned(t, "dry")
	encrypted := b.EncryptedKeyPEM(t, passphrase, 2048)
	secrets = []string{passphrase, wrong}
	for _, key := range []string{a.KeyPEM(t), b.KeyPEM(t), dry.KeyPEM(t), encrypted} {
		secrets = append(secrets, strings.Split(key, "\n")[1])
		block, _ := pem.Decode([]byte(key))
		secrets = append(secrets, string(block.Bytes[len(block.Bytes)/4:len(block.Bytes)/2]))
	}
	for _, key := range []crypto.Signer{a.Key, b.Key, dry.Key} {
		raw, err := key.(*ecdsa.PrivateKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, string(raw), hex.EncodeToString(raw))
	}
	call := func(want int, method, path, body string, headers ...string) {
		t.Helper()
		answer := c.REST(method, "/v1/groups/default"+path, body, headers...)
		if answer.Status != want {
			t.Errorf("%s %s: %d %s", method, path, answer.Status, answer.Body)
		}
		answers = append(answers, answer)
	}
	file := []string{"Content-Type", "application/x-pem-file"}
	add := fmt.Sprintf(`{"name": "b", "pem": %q, "passphrase": %q}`, b.PEM()+encrypted, passphrase)
	call(http.StatusCreated, http.MethodPost, "/certificates?name=a", a.PEM()+a.KeyPEM(t), file...)
	call(http.StatusCreated, http.MethodPost, "/certificates", add)
	call(http.StatusOK, http.MethodGet, "/certificates/a", "")
	call(http.StatusOK, http.MethodGet, "/certificates/"+a.ID()+","+b.ID(), "")
	call(http.StatusOK, http.MethodGet, "/certificates", "")
	call(http.StatusOK, http.MethodPatch, "/certificates/a", `{"description": "x"}`, "Content-Type", "application/merge-patch+json")
	call(http.StatusOK, http.MethodPost, ":apply?dry_run=true", fmt.Sprintf("certificates: [{name: a, current: %q}]", dry.PEM()+dry.KeyPEM(t)))
	// What is refused: a key in the wrong place, cut off, of another certificate, with the wrong passphrase, among unknown fields.
	for _, body := range []string{
		fmt.Sprintf(`{"description": %q, "current": {"chain": %q, "private_key": {"bad": %q}}}`, "x", a.PEM(), a.KeyPEM(t)),
		fmt.Sprintf(`{"current": %q}`, a.PEM()+strings.Replace(a.KeyPEM(t), "-----END", "----END", 1)),
		fmt.Sprintf(`{"current": {"chain": %q, "private_key": %q}}`, a.PEM(), b.KeyPEM(t)),
		fmt.Sprintf(`{"current": {"chain": %q, "private_key": %q, "passphrase": %q}}`, b.PEM(), encrypted, wrong),
		fmt.Sprintf(`{"current": {"chain": %q, "passphrase": {"x": %q}}}`, b.PEM(), wrong),
		fmt.Sprintf(`{"current": {"chain": [%q]}}`, a.KeyPEM(t)),
	} {
		call(http.StatusUnprocessableEntity, http.MethodPut, "/certificates/a", body)
	}
	call(http.StatusUnprocessableEntity, http.MethodPut, "/ca-certificates/a", fmt.Sprintf(`{"certificates": %q}`, a.PEM()+a.KeyPEM(t)))
	call(http.StatusUnprocessableEntity, http.MethodPost, "/certificates", strings.Replace(add, passphrase, wrong, 1))
	call(http.StatusUnprocessableEntity, http.MethodPost, "/certificates", a.KeyPEM(t), file...)
	// The MAC key of an external account with an authority, also where it is refused.
	const macKey = "CANARYmac7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"
	issuer := `{"directory": "https://ca.invalid/directory", "external_account": {"key_id": "k", "key": "` + macKey + `"}}`
	call(http.StatusCreated, http.MethodPut, "/acme-issuers/e", issuer)
	call(http.StatusOK, http.MethodGet, "/acme-issuers/e", "")
	call(http.StatusOK, http.MethodGet, "/acme-issuers", "")
	call(http.StatusOK, http.MethodPatch, "/acme-issuers/e", `{"description": "x"}`, "Content-Type", "application/merge-patch+json")
	for _, bad := range []string{`{"bad": "` + macKey + `"}`, `"` + macKey + `!"`, `["` + macKey + `"]`, `"` + macKey + `", "x": "` + macKey + `"`} {
		call(http.StatusUnprocessableEntity, http.MethodPut, "/acme-issuers/e", strings.Replace(issuer, `"`+macKey+`"`, bad, 1))
	}
	return append(secrets, macKey), answers
}

// providerSecrets stores providers of secrets, also badly, and answers what must not be found of them and what the API said.
func providerSecrets(t *testing.T, c *harness.Cluster) (secrets []string, answers []harness.Answer) {
	t.Helper()
	secrets = []string{"CANARY-token-2kS0aYq7", "CANARY-secret-id-8wB1cD5f", "CANARY-access-key-G6hJ3kS0", "CANARY-session-N9pL4tR8"}
	const vault = `{"vault": {"address": "https://vault.invalid:8200", "mount": "kv", `
	call := func(want int, method, path, body string) {
		t.Helper()
		a := c.REST(method, "/v1/groups/default/secret-providers"+path, body)
		if a.Status != want {
			t.Errorf("%s %s: %d %s", method, path, a.Status, a.Body)
		}
		answers = append(answers, a)
	}
	call(http.StatusCreated, http.MethodPut, "/a", fmt.Sprintf(vault+`"token": %q}}`, secrets[0]))
	call(http.StatusCreated, http.MethodPut, "/b", fmt.Sprintf(vault+`"approle": {"role_id": "r", "secret_id": %q}}}`, secrets[1]))
	call(http.StatusCreated, http.MethodPut, "/c", fmt.Sprintf(
		`{"aws": {"region": "eu-central-1", "access_key_id": "A", "secret_access_key": %q, "session_token": %q}}`, secrets[2], secrets[3]))
	call(http.StatusOK, http.MethodGet, "", "")
	call(http.StatusUnprocessableEntity, http.MethodPut, "/a", fmt.Sprintf(vault+`"token": {"bad": %q}}}`, secrets[0]))
	call(http.StatusUnprocessableEntity, http.MethodPut, "/b", fmt.Sprintf(vault+`"approle": {"role_id": "r", "secret_id": %q, "x": %q}}}`, secrets[1], secrets[1]))
	return secrets, answers
}

func mustNotHold(t *testing.T, where string, content []byte, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if bytes.Contains(content, []byte(s)) {
			t.Errorf("%s holds a secret in the clear", where)
		}
	}
}
