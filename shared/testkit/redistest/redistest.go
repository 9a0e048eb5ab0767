// Package redistest gives tests a Redis each: the real server, on free ports with its own directory, alone or three of them as a
// cluster. A test that needs one is skipped, and says so, where redis-server is not installed. Tests of the gateway and the
// end-to-end tests call it.
package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/daemon"
)

// Who may log in: the default user with its password, and Guard, who may do nothing but what gateways need.
const (
	Password      = "opens-redis"
	Guard         = "gateway"
	GuardPassword = "opens-little"
)

// Server is one Redis. Its certificate is for localhost and 127.0.0.1. What is stopped Restart starts again.
type Server struct {
	*daemon.Daemon
	// Address is where it speaks in the clear; TLSAddress where it speaks TLS.
	Address, TLSAddress string
	// CA is the authority of its certificate.
	CA *certtest.Cert

	t       testing.TB
	program string
	dir     string
	more    []string // settings
}

// Start starts a Redis that keeps nothing when it ends, with more settings, one a line.
func Start(t testing.TB, more ...string) *Server {
	t.Helper()
	addresses := testkit.Addrs(t, 2)
	s := &Server{Address: addresses[0], TLSAddress: addresses[1], t: t, program: find(t), dir: t.TempDir(), more: more}
	s.CA = daemon.Certify(t, s.dir, "redis")
	s.Restart()
	return s
}

// find answers the path of the program, or skips the test.
func find(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	switch {
	case err == nil:
		return path
	case os.Getenv("KEYWARD_FULL") != "":
		t.Fatal("redis-server is not installed; make setup installs it")
	}
	t.Skip("NOT RUN: redis-server is not installed; make setup installs it")
	return ""
}

// Restart starts a stopped Redis at its addresses, empty.
func (s *Server) Restart() {
	s.t.Helper()
	cmd := exec.Command(s.program, s.write("redis.conf", s.config()))
	cmd.Dir = s.dir
	s.Daemon = daemon.Start(s.t, cmd, filepath.Join(s.dir, "log"), func() error {
		_, err := s.Do("PING")
		return err
	})
}

// Keys are the names of all that it holds.
func (s *Server) Keys() []string {
	s.t.Helper()
	said, err := s.Do("KEYS", "*")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Fields(said)
}

// Do has the server do something as the default user, and answers what it says, elements of a list on lines of their own.
func (s *Server) Do(words ...string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	r := bufio.NewReader(c)
	for _, command := range [][]string{{"AUTH", Password}, words} {
		text := fmt.Sprintf("*%d\r\n", len(command))
		for _, w := range command {
			text += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			return "", fmt.Errorf("say it: %w", err)
		}
		if text, err = answer(r); err != nil || command[0] == words[0] {
			return text, err
		}
	}
	return "", nil
}

// answer reads one answer.
func answer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	var n int
	if kind == '*' || kind == '$' {
		_, _ = fmt.Sscan(rest, &n)
	}
	switch kind {
	case '-':
		return "", errors.New(rest)
	case '*':
		var all []string
		for range n {
			text, err := answer(r)
			if err != nil {
				return "", err
			}
			all = append(all, text)
		}
		return strings.Join(all, "\n"), nil
	case '$':
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+len("\r\n"))
		if _, err := io.ReadFull(r, text); err != nil {
			return "", fmt.Errorf("read answer: %w", err)
		}
		return string(text[:n]), nil
	}
	return rest, nil
}

func (s *Server) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *Server) config() string {
	_, port, _ := net.SplitHostPort(s.Address)
	_, secure, _ := net.SplitHostPort(s.TLSAddress)
	return fmt.Sprintf(`bind 127.0.0.1
port %s
tls-port %s
tls-cert-file cert.pem
tls-key-file key.pem
tls-ca-cert-file ca.pem
tls-auth-clients no
save ""
appendonly no
dir %s
user default on >%s ~* &* +@all
user %s on >%s ~keyward:* +set +get +hello +auth +cluster|slots
%s
`, port, secure, s.dir, Password, Guard, GuardPassword, strings.Join(s.more, "\n"))
}
