// Package pgserver runs a real PostgreSQL server of its own: own data directory, own port on the loopback address, a
// generated password, never as root, gone when this process is gone. `keyward dev` and the tests of every module that
// needs a database start one. It is no way to run PostgreSQL in production and knows nothing of Keyward's schema.
package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"keyward.dev/shared/run/child"
)

// Superuser is the role that owns the server.
const Superuser = "postgres"

const (
	startTimeout = 60 * time.Second
	readyTick    = 20 * time.Millisecond
	portAttempts = 3
)

var (
	// errPortTaken asks for another attempt on another port.
	errPortTaken = errors.New("the port is in use")
	errEnded     = errors.New("the server ended")
)

// Config says which server is wanted. The zero value, with Dir set, is a server whose data need not survive a crash.
type Config struct {
	// Dir holds everything the server has, data and log and password. It is created if need be, and a server that was
	// here before goes on with its data. Every parent must be open (x) to the user the server runs as.
	Dir string
	// Port to listen on; 0 takes a free one.
	Port int
	// Durable keeps fsync on. Without it a crash of the machine may lose the data.
	Durable bool
	// BinDir has initdb and postgres; empty looks for them, see FindBinaries.
	BinDir string
	// Certificate and Key, both PEM, make the server offer TLS on the same port.
	Certificate, Key []byte
	// Parameters are further settings for postgresql.conf, such as max_connections.
	Parameters map[string]string
}

// Server is a running server.
type Server struct {
	dir      string
	port     int
	password string
	tls      bool
	process  *child.Child
}

// Start makes the data directory if there is none and starts the server; when it returns, the server takes connections.
// The caller stops it; ctx bounds only the start.
func Start(ctx context.Context, config Config) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s, err := start(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, config Config) (*Server, error) {
	dir, err := filepath.Abs(config.Dir)
	if err != nil || config.Dir == "" {
		return nil, fmt.Errorf("directory %q: %w", config.Dir, errors.Join(err, os.ErrInvalid))
	}
	c := cluster{dir: dir, config: config}
	if c.owner, err = chooseOwner(c.data()); err != nil {
		return nil, err
	}
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		s, err := c.launch(ctx)
		if err == nil || config.Port != 0 || attempt == portAttempts || !errors.Is(err, errPortTaken) {
			return s, err
		}
	}
}

// launch starts the server process on an initialised directory.
func (c *cluster) launch(ctx context.Context) (*Server, error) {
	port := c.config.Port
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(c.path("postgres.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	cmd := exec.Command(filepath.Join(c.bin, "postgres"), "-D", c.data(), "-p", strconv.Itoa(port))
	cmd.Dir = c.data()
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = c.owner.attributes()
	// A group of its own: an interrupt typed at the terminal reaches the parent, which then stops this in order.
	cmd.SysProcAttr.Setpgid = true
	// SIGQUIT is PostgreSQL's immediate shutdown: it ends all its own children too.
	process, err := child.Start(cmd, syscall.SIGQUIT)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: c.dir, port: port, password: c.password, tls: len(c.config.Certificate) > 0, process: process}
	if err := s.awaitReady(ctx); err != nil {
		_ = process.Signal(syscall.SIGQUIT)
		<-process.Done()
		return nil, c.explain(err)
	}
	return s, nil
}

func (s *Server) awaitReady(ctx context.Context) error {
	// Somebody else may hold the port and take our connection without a word; our server then ends.
	attempts, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.process.Done():
			cancel()
		case <-attempts.Done():
		}
	}()
	tick := time.NewTicker(readyTick)
	defer tick.Stop()
	for {
		err := s.Exec(attempts, "postgres", "select 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.process.Done():
			return errors.Join(errEnded, s.process.Err())
		case <-ctx.Done():
			return fmt.Errorf("%w; last attempt: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// explain adds the end of the server's log, which says why it did not come up.
func (c *cluster) explain(err error) error {
	log, _ := os.ReadFile(c.path("postgres.log"))
	if strings.Contains(string(log), "Address already in use") {
		err = errors.Join(errPortTaken, err)
	}
	const most = 2000
	if len(log) > most {
		log = log[len(log)-most:]
	}
	return fmt.Errorf("%w; its log ends:\n%s", err, log)
}

// Dir returns the server's directory, of which data, the data directory, is a part.
func (s *Server) Dir() string { return s.dir }

// PID returns the process id of the server.
func (s *Server) PID() int { return s.process.PID() }

// Port returns the port the server listens on.
func (s *Server) Port() int { return s.port }

// Password returns the superuser's password.
func (s *Server) Password() string { return s.password }

// URL returns the connection string of the superuser. See URLFor for other roles.
func (s *Server) URL(database string) string { return s.URLFor(database, Superuser, s.password) }

// URLFor returns a connection string. It asks for no TLS, even if the server offers it; tests of that change sslmode.
func (s *Server) URLFor(database, user, password string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(user, password),
		Host:     s.address(),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (s *Server) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Done is closed when the server process has ended.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Stop ends the server in order, cutting connections; when ctx ends first it is killed.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.process.Stop(ctx, syscall.SIGINT); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}

// Kill ends the server as a crash would: nothing is written any more. Start on the same directory recovers.
func (s *Server) Kill() error {
	if err := s.process.Signal(syscall.SIGQUIT); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	<-s.process.Done()
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// NewPassword returns a password for a role, safe in a URL and in SQL.
func NewPassword() string { return rand.Text() }

// environment is what server processes get to see: nothing of ours, which may be secret.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}
