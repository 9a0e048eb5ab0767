// Package pgtest gives tests a database each on a real PostgreSQL server. The server is started at the first use in a
// test binary and shared by its tests; it and its files are gone when the binary has ended, however it ends. Tests of
// every module that needs a database call it; it knows no schema: callers bring their migrations.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/pgserver"
)

// objectInUse is the code of "source database is being accessed by other users".
const objectInUse = "55006"

// Server is the server of this test binary.
type Server struct {
	*pgserver.Server

	alive     *os.File // see removeWhenGone
	mu        sync.Mutex
	names     int
	templates map[string]string
}

// shared is the one server of a test binary; OnceValues is what makes it safe to keep here.
var shared = sync.OnceValues(start)

// ForTest returns the shared server.
func ForTest(t testing.TB) *Server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("PostgreSQL for tests: %v", err)
	}
	return s
}

func start() (*Server, error) {
	dir, err := os.MkdirTemp("", "keyward-pgtest-")
	if err != nil {
		return nil, err
	}
	// As root the server runs as another user, who has to get to its data.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	s, err := pgserver.Start(context.Background(), pgserver.Config{Dir: dir, Parameters: map[string]string{
		"max_connections": "300",
		"shared_buffers":  "32MB",
	}})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	alive, err := removeWhenGone(dir, s)
	if err != nil {
		return nil, errors.Join(err, s.Kill(), os.RemoveAll(dir))
	}
	return &Server{Server: s, alive: alive, templates: map[string]string{}}, nil
}

// removeWhenGone leaves a process behind that outlives this one: once our end of its pipe, which is returned, is closed,
// which the kernel does for us, it waits for the server to end and removes the files. Go runs nothing of ours when a test
// binary exits.
func removeWhenGone(dir string, s *pgserver.Server) (*os.File, error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	const script = `cat >/dev/null; n=0; while kill -0 "$1" 2>/dev/null && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.1; done; rm -rf "$2"`
	cmd := exec.Command("sh", "-c", script, "sh", strconv.Itoa(s.PID()), dir)
	cmd.Dir = "/"
	cmd.Stdin = theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return ours, nil
}

// NewDatabase creates an empty database for the test, dropped at its end, and returns the superuser's connection string.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	return s.create(t, "template0")
}

// NewDatabaseFrom creates a database as prepare left its own, which is called once per key and test binary. It gets the
// connection string of a database of its own and must have closed its connections when it returns.
func (s *Server) NewDatabaseFrom(t testing.TB, key string, prepare func(ctx context.Context, url string) error) string {
	t.Helper()
	template, err := s.template(t.Context(), key, prepare)
	if err != nil {
		t.Fatalf("template database %s: %v", key, err)
	}
	return s.create(t, template)
}

func (s *Server) template(ctx context.Context, key string, prepare func(context.Context, string) error) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := s.templates[key]; ok {
		return name, nil
	}
	s.names++
	name := fmt.Sprintf("template_%d", s.names)
	if err := s.Exec(ctx, "postgres", "create database "+name+" template template0"); err != nil {
		return "", err
	}
	if err := prepare(ctx, s.URL(name)); err != nil {
		return "", err
	}
	s.templates[key] = name
	return name, nil
}

func (s *Server) create(t testing.TB, template string) string {
	t.Helper()
	s.mu.Lock()
	s.names++
	name := fmt.Sprintf("test_%d", s.names)
	s.mu.Unlock()
	// A connection that was just closed may still be there for the server, and another test may be copying.
	testkit.Await(t, testkit.Deadline, func() error {
		err := s.Exec(t.Context(), "postgres", fmt.Sprintf("create database %s template %s", name, template))
		var refused *pgserver.Error
		if errors.As(err, &refused) && refused.Code != objectInUse {
			t.Fatalf("create database: %v", err)
		}
		return err
	})
	t.Cleanup(func() {
		if err := s.Exec(context.WithoutCancel(t.Context()), "postgres", "drop database "+name+" with (force)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return s.URL(name)
}

// NewRole creates a role that may log in and nothing else, dropped at the end of the test, and returns its name and
// password. Roles belong to the whole server: each test needs its own.
func (s *Server) NewRole(t testing.TB) (name, password string) {
	t.Helper()
	s.mu.Lock()
	s.names++
	name = fmt.Sprintf("role_%d", s.names)
	s.mu.Unlock()
	password = pgserver.NewPassword()
	if err := s.Exec(t.Context(), "postgres", fmt.Sprintf("create role %s login password '%s'", name, password)); err != nil {
		t.Fatalf("create role: %v", err)
	}
	return name, password
}

// DatabaseOf returns the database name in a connection string of this package.
func DatabaseOf(url string) string {
	_, path, _ := strings.Cut(strings.TrimPrefix(url, "postgres://"), "/")
	name, _, _ := strings.Cut(path, "?")
	return name
}
