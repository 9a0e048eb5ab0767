// Package vaulttest gives tests a HashiCorp Vault each: the real server, over TLS, on a free port with its own data.
// Building it takes minutes, so a test that needs one is skipped, and says so, where it has not been built; with
// KEYWARD_FULL it is built. Tests of the control plane and the end-to-end tests call it.
package vaulttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyward.dev/shared/run/child"
	"keyward.dev/shared/testkit"
)

// Server is a Vault with one unseal key. Its methods fail the test.
type Server struct {
	// Address is its URL, Token the root token, CA the path of the certificate that verifies it.
	Address, Token, CA string

	t         testing.TB
	dir       string
	unsealKey string
	child     *child.Child
	client    *http.Client
}

// Start starts a server, initialised and unsealed.
func Start(t testing.TB) *Server {
	t.Helper()
	program := find(t)
	s := &Server{t: t, dir: t.TempDir()}
	s.client = s.certify()
	s.launch(program, "127.0.0.1:0")
	t.Cleanup(s.Stop)
	answer := s.call("", http.MethodPut, "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
	keys, _ := answer["keys"].([]any)
	s.Token, _ = answer["root_token"].(string)
	if len(keys) != 1 || s.Token == "" {
		t.Fatal("vault: it was not initialised")
	}
	s.unsealKey, _ = keys[0].(string)
	s.Unseal()
	return s
}

// find answers the path of the program, or skips the test.
func find(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		tool := filepath.Join(dir, ".tools", "tool")
		if _, err := os.Stat(tool); err != nil {
			continue
		}
		if os.Getenv("KEYWARD_FULL") == "" && exec.Command(tool, "--have", "vault").Run() != nil {
			t.Skip("NOT RUN: vault is not built; make setup FULL=1 builds it")
		}
		out, err := exec.Command(tool, "vault").Output()
		if err != nil {
			t.Fatalf("build vault: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
	t.Fatal("vault: this test runs outside the repository")
	return ""
}

func (s *Server) launch(program, listen string) {
	s.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command(program, "-listen", listen, "-data", filepath.Join(s.dir, "data"),
		"-tls-cert", s.CA, "-tls-key", filepath.Join(s.dir, "key.pem"))
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	s.child, err = child.Start(cmd, syscall.SIGKILL)
	write.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		s.t.Fatalf("vault did not start: %v", err)
	}
	s.Address = strings.TrimSpace(line)
}

// Stop ends the server as a crash does; Restart starts it again, sealed, at its address with its data.
func (s *Server) Stop() {
	_ = s.child.Signal(syscall.SIGKILL)
	<-s.child.Done()
}

// Restart starts a stopped server.
func (s *Server) Restart() {
	s.t.Helper()
	s.launch(find(s.t), strings.TrimPrefix(s.Address, "https://"))
}

// Seal seals the server.
func (s *Server) Seal() {
	s.t.Helper()
	s.Write("sys/seal", nil)
}

// Unseal unseals it and waits until it serves.
func (s *Server) Unseal() {
	s.t.Helper()
	s.call("", http.MethodPut, "sys/unseal", map[string]any{"key": s.unsealKey})
	testkit.Await(s.t, testkit.Deadline, func() error {
		status, _, err := s.try(s.Token, http.MethodGet, "sys/health", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("vault does not serve: status %d", status)
		}
		return err
	})
}

// Write writes to a path as root and answers what the answer's data is.
func (s *Server) Write(path string, body map[string]any) map[string]any {
	s.t.Helper()
	return s.call(s.Token, http.MethodPut, path, body)
}

// Read reads a path as root.
func (s *Server) Read(path string) map[string]any {
	s.t.Helper()
	return s.call(s.Token, http.MethodGet, path, nil)
}

// Delete deletes what is at a path, as root.
func (s *Server) Delete(path string) {
	s.t.Helper()
	s.call(s.Token, http.MethodDelete, path, nil)
}

// Transit makes a transit key; the engine is mounted at the first.
func (s *Server) Transit(mount, key string) {
	s.t.Helper()
	if mounts := s.Read("sys/mounts"); mounts[mount+"/"] == nil {
		s.Write("sys/mounts/"+mount, map[string]any{"type": "transit"})
	}
	s.Write(mount+"/keys/"+key, map[string]any{"derived": true})
}

// Policy makes a policy that may use a transit key and renew its own token, and answers its name.
func (s *Server) Policy(mount, key string) string {
	s.t.Helper()
	name := "keyward-" + key
	s.Write("sys/policies/acl/"+name, map[string]any{"policy": fmt.Sprintf(
		`path "%[1]s/encrypt/%[2]s" { capabilities = ["update"] } path "%[1]s/decrypt/%[2]s" { capabilities = ["update"] }`, mount, key)})
	return name
}

// Issue makes a token with a policy.
func (s *Server) Issue(policy string, ttl, maxTTL time.Duration) string {
	s.t.Helper()
	_, answer, err := s.try(s.Token, http.MethodPut, "auth/token/create-orphan", map[string]any{
		"policies": []string{policy}, "ttl": ttl.String(), "explicit_max_ttl": maxTTL.String(), "renewable": true,
	})
	auth, _ := answer["auth"].(map[string]any)
	token, _ := auth["client_token"].(string)
	if token == "" {
		s.t.Fatalf("vault issued no token: %v", err)
	}
	return token
}

// AppRole makes a role with a policy and answers its id and a secret id.
func (s *Server) AppRole(policy string, ttl, maxTTL time.Duration) (roleID, secretID string) {
	s.t.Helper()
	if auths := s.Read("sys/auth"); auths["approle/"] == nil {
		s.Write("sys/auth/approle", map[string]any{"type": "approle"})
	}
	role := "auth/approle/role/" + policy
	s.Write(role, map[string]any{"token_policies": policy, "token_ttl": ttl.String(), "token_max_ttl": maxTTL.String()})
	roleID, _ = s.Read(role + "/role-id")["role_id"].(string)
	secretID, _ = s.Write(role+"/secret-id", nil)["secret_id"].(string)
	return roleID, secretID
}

// call fails the test if the server refuses.
func (s *Server) call(token, method, path string, body map[string]any) map[string]any {
	s.t.Helper()
	status, answer, err := s.try(token, method, path, body)
	if err != nil || status >= http.StatusBadRequest {
		s.t.Fatalf("vault: %s %s: status %d, %v %v", method, path, status, answer["errors"], err)
	}
	if data, ok := answer["data"].(map[string]any); ok {
		return data
	}
	return answer
}

func (s *Server) try(token, method, path string, body map[string]any) (int, map[string]any, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	// Not the test's context: clean-up and what a test does late need it, too.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.Address+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	answer := map[string]any{}
	if len(text) > 0 {
		_ = json.Unmarshal(text, &answer)
	}
	return resp.StatusCode, answer, err
}
