package vaultclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/vaulttest"
)

const encrypt = "transit/encrypt/k"

var body = map[string]any{"plaintext": "c2VjcmV0", "context": "Y29udGV4dA=="}

func client(t *testing.T, v *vaulttest.Server, auth vaultclient.Auth) *vaultclient.Client {
	t.Helper()
	c, err := vaultclient.New(vaultclient.Config{Address: v.Address, CAFile: v.CA, Timeout: 5 * time.Second, Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func token(text string) vaultclient.Auth {
	return vaultclient.Auth{Method: vaultclient.MethodToken, Secret: settings.NewSecret(text)}
}

// run keeps a client logged in until the test ends and answers what it logs.
func run(t *testing.T, c *vaultclient.Client) *buffer {
	t.Helper()
	var log buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, slog.New(slog.NewTextHandler(&log, nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &log
}

type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func write(t *testing.T, c *vaultclient.Client) error {
	t.Helper()
	answer, err := c.Write(t.Context(), encrypt, body)
	if err == nil && !strings.HasPrefix(fmt.Sprint(answer["ciphertext"]), "vault:v1:") {
		t.Errorf("answer: %v", answer)
	}
	return err
}

func TestWhatIsWrongIsToldApart(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	c := client(t, v, token(v.Token))
	if err := write(t, c); err != nil {
		t.Fatal(err)
	}
	role, secret := v.AppRole(v.Policy("transit", "k"), time.Minute, time.Hour)
	wrong := vaultclient.Auth{Method: vaultclient.MethodAppRole, Role: role, Secret: settings.NewSecret(secret + "x")}
	stray := client(t, v, vaultclient.Auth{Method: vaultclient.MethodToken, SecretFile: filepath.Join(t.TempDir(), "missing")})
	untrusted, err := vaultclient.New(vaultclient.Config{Address: v.Address, Timeout: time.Second, Auth: token(v.Token)})
	if err != nil {
		t.Fatal(err)
	}
	misnamed, err := vaultclient.New(vaultclient.Config{
		Address: v.Address, CAFile: v.CA, ServerName: "vault.example", Timeout: time.Second, Auth: token(v.Token),
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		client *vaultclient.Client
		path   string
		want   []error
	}{
		"a token that is none":       {client(t, v, token("hvs.none")), encrypt, []error{vaultclient.ErrForbidden}},
		"a wrong secret id":          {client(t, v, wrong), encrypt, []error{vaultclient.ErrNoLogin}},
		"a secret that is not there": {stray, encrypt, []error{vaultclient.ErrNoLogin, os.ErrNotExist}},
		"no such mount":              {c, "nothing/encrypt/k", []error{vaultclient.ErrNotFound}},
		"a bad request":              {c, "transit/decrypt/k", []error{vaultclient.ErrRejected}},
		"an unknown authority":       {untrusted, encrypt, []error{vaultclient.ErrUnreachable}},
		"another server's name":      {misnamed, encrypt, []error{vaultclient.ErrUnreachable}},
	} {
		_, err := tc.client.Write(t.Context(), tc.path, body)
		for _, want := range tc.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		if err != nil && (strings.Contains(err.Error(), v.Token) || strings.Contains(err.Error(), secret)) {
			t.Errorf("%s: the error shows a secret", name)
		}
	}
	v.Seal()
	if err := write(t, c); !errors.Is(err, vaultclient.ErrSealed) {
		t.Errorf("sealed: %v", err)
	}
	v.Stop()
	if err := write(t, c); !errors.Is(err, vaultclient.ErrUnreachable) {
		t.Errorf("stopped: %v", err)
	}
	v.Restart()
	if err := write(t, c); !errors.Is(err, vaultclient.ErrSealed) {
		t.Errorf("started again: %v", err)
	}
	v.Unseal()
	if err := write(t, c); err != nil {
		t.Errorf("unsealed: %v", err)
	}
}

func TestALoginOutlivesItsToken(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	const ttl, maxTTL = 2 * time.Second, 5 * time.Second
	role, secret := v.AppRole(v.Policy("transit", "k"), ttl, maxTTL)
	auth := vaultclient.Auth{Method: vaultclient.MethodAppRole, Role: role, Secret: settings.NewSecret(secret)}
	idle, kept := client(t, v, auth), client(t, v, auth)
	if err := write(t, idle); err != nil {
		t.Fatal(err)
	}
	log := run(t, kept)
	end := time.Now().Add(maxTTL + ttl)
	testkit.Await(t, testkit.Deadline, func() error {
		if err := write(t, kept); err != nil {
			t.Fatalf("while Run runs: %v", err)
		}
		if time.Now().Before(end) {
			return errors.New("the longest life of a token is not over")
		}
		return nil
	})
	if err := write(t, idle); err != nil {
		t.Errorf("with an expired token, without Run: %v", err)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

func TestATokenIsRenewedAndReadAgain(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	policy := v.Policy("transit", "k")
	const ttl = 5 * time.Second
	path := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := v.Issue(policy, ttl, time.Hour)
	put(first)
	c := client(t, v, vaultclient.Auth{Method: vaultclient.MethodToken, SecretFile: path})
	log := run(t, c)
	end := time.Now().Add(2 * ttl)
	testkit.Await(t, testkit.Deadline, func() error {
		if err := write(t, c); err != nil {
			t.Fatalf("the token was not renewed: %v", err)
		}
		if time.Now().Before(end) {
			return errors.New("not two lives of the token yet")
		}
		return nil
	})
	v.Write("auth/token/revoke", map[string]any{"token": first})
	if err := write(t, c); !errors.Is(err, vaultclient.ErrForbidden) {
		t.Errorf("revoked: %v", err)
	}
	testkit.Await(t, testkit.Deadline, func() error {
		if !strings.Contains(log.String(), "no valid Vault token") {
			return errors.New("nothing was logged")
		}
		return nil
	})
	put(v.Issue(policy, ttl, time.Hour))
	if err := write(t, c); err != nil {
		t.Errorf("with another token in the file: %v", err)
	}
	testkit.Await(t, testkit.Deadline, func() error {
		if !strings.Contains(log.String(), "valid again") {
			return errors.New("nothing was logged")
		}
		return nil
	})
	if strings.Contains(log.String(), first) {
		t.Error("the log shows the token")
	}
}

func TestARevokedLoginIsReplaced(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	role, secret := v.AppRole(v.Policy("transit", "k"), time.Hour, time.Hour)
	c := client(t, v, vaultclient.Auth{Method: vaultclient.MethodAppRole, Role: role, Secret: settings.NewSecret(secret)})
	if err := write(t, c); err != nil {
		t.Fatal(err)
	}
	v.Write("sys/leases/revoke-prefix/auth/approle/login", nil)
	if err := write(t, c); err != nil {
		t.Errorf("after its token was revoked: %v", err)
	}
}

// TestASilentVaultIsNotWaitedForTwice has a server that takes requests and never answers.
func TestASilentVaultIsNotWaitedForTwice(t *testing.T) {
	t.Parallel()
	released, release := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-released.Done() }))
	defer server.Close()
	defer release()
	const timeout = 500 * time.Millisecond
	c, err := vaultclient.New(vaultclient.Config{
		Address: server.URL, Timeout: timeout,
		Auth: vaultclient.Auth{Method: vaultclient.MethodAppRole, Role: "r", Secret: settings.NewSecret("s")},
	})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := write(t, c); !errors.Is(err, vaultclient.ErrUnreachable) || !errors.Is(err, vaultclient.ErrNoLogin) {
				t.Errorf("Write = %v", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(begun); took > 10*timeout {
		t.Errorf("20 callers waited %v, with a timeout of %v", took, timeout)
	}
}

// TestKubernetesLoginRequest holds what is sent, with a stand-in for Vault.
func TestKubernetesLoginRequest(t *testing.T) {
	t.Parallel()
	jwt := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(jwt, []byte("the.service.account"), 0o600); err != nil {
		t.Fatal(err)
	}
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var text bytes.Buffer
		_, _ = text.ReadFrom(r.Body)
		seen = append(seen, r.URL.Path+" "+r.Header.Get("X-Vault-Namespace")+" "+r.Header.Get("X-Vault-Token")+" "+strings.TrimSpace(text.String()))
		_, _ = w.Write([]byte(`{"auth":{"client_token":"hvs.pod","lease_duration":60,"renewable":true},"data":{"ciphertext":"vault:v1:x"}}`))
	}))
	defer server.Close()
	c, err := vaultclient.New(vaultclient.Config{
		Address: server.URL, Namespace: "team/a", Timeout: 5 * time.Second,
		Auth: vaultclient.Auth{Method: vaultclient.MethodKubernetes, Mount: "cluster-1", Role: "keyward", SecretFile: jwt},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t, c); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`/v1/auth/cluster-1/login team/a  {"jwt":"the.service.account","role":"keyward"}`,
		`/v1/transit/encrypt/k team/a hvs.pod {"context":"Y29udGV4dA==","plaintext":"c2VjcmV0"}`,
	}
	if strings.Join(seen, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked:\n%s\nwant:\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatIsNotSafeIsRefused(t *testing.T) {
	t.Parallel()
	good := vaultclient.Config{Address: "https://vault.example:8200", Timeout: time.Second, Auth: token("t")}
	if _, err := vaultclient.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*vaultclient.Config){
		"plain http":        func(c *vaultclient.Config) { c.Address = "http://vault.example:8200" },
		"no scheme":         func(c *vaultclient.Config) { c.Address = "vault.example:8200" },
		"a socket":          func(c *vaultclient.Config) { c.Address = "unix:///run/vault" },
		"a password":        func(c *vaultclient.Config) { c.Address = "https://u:p@vault.example" },
		"a path":            func(c *vaultclient.Config) { c.Address = "https://vault.example/v1" },
		"no timeout":        func(c *vaultclient.Config) { c.Timeout = 0 },
		"a missing CA":      func(c *vaultclient.Config) { c.CAFile = "/nonexistent" },
		"a CA that is none": func(c *vaultclient.Config) { c.CAFile = "vaultclient.go" },
		"no method":         func(c *vaultclient.Config) { c.Auth.Method = "ldap" },
		"no secret":         func(c *vaultclient.Config) { c.Auth.Secret = settings.Secret{} },
		"two secrets":       func(c *vaultclient.Config) { c.Auth.SecretFile = "file" },
		"role of a token":   func(c *vaultclient.Config) { c.Auth.Role = "r" },
		"no role":           func(c *vaultclient.Config) { c.Auth.Method = vaultclient.MethodAppRole },
	} {
		c := good
		change(&c)
		if _, err := vaultclient.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestWhatIsTendedStaysLoggedIn uses clients now and then, without Run: one with a token that would expire, one with a role.
func TestWhatIsTendedStaysLoggedIn(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	policy := v.Policy("transit", "k")
	const ttl = 4 * time.Second
	role, secret := v.AppRole(policy, ttl, time.Hour)
	left := v.Issue(policy, ttl, time.Hour)
	clients := []*vaultclient.Client{
		client(t, v, token(v.Issue(policy, ttl, time.Hour))),
		client(t, v, vaultclient.Auth{Method: vaultclient.MethodAppRole, Role: role, Secret: settings.NewSecret(secret)}),
	}
	end := time.Now().Add(2 * ttl)
	testkit.Await(t, testkit.Deadline, func() error {
		for _, c := range clients {
			c.Tend(t.Context())
			if err := write(t, c); err != nil {
				t.Fatalf("while it is tended: %v", err)
			}
		}
		if time.Now().Before(end) {
			return errors.New("not two lives of the token yet")
		}
		return nil
	})
	if err := write(t, client(t, v, token(left))); !errors.Is(err, vaultclient.ErrForbidden) {
		t.Errorf("a token that nobody tended: %v", err)
	}
}
