package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"keyward.dev/shared/run"

	"keyward.dev/controlplane/cmd/keyward/internal/client"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/control"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/database"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/devca"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/guard"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/ports"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/sample"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/supervisor"
)

const (
	// Everything ends within 10 s of a signal: processes get 5 s, PostgreSQL another 2, what then still runs is killed.
	processGrace  = 5 * time.Second
	databaseGrace = 2 * time.Second
	// startPatience bounds the whole start.
	startPatience = 80 * time.Second
)

// errDone ends the group of tasks when the command of --exec has ended.
var errDone = errors.New("the command has ended")

// stack is one running `keyward dev`.
type stack struct {
	opts  *Options
	state *state
	plan  ports.Plan
	// claims are held to the end: a process that is stopped by hand keeps its port.
	claims ports.Claims
	certs  devca.Files
	db     *database.Database
	procs  *supervisor.Supervisor
	guard  *guard.Guard
	logs   func(name string) io.Writer
	// bin is where the other programs are.
	bin       string
	tokenFile string
	token     string
	// up is closed when everything has been started; before, there is nothing to start and stop by hand.
	up chan struct{}
}

// Run starts everything, stays until ctx ends or the command of --exec does, and ends everything.
func Run(ctx context.Context, o *Options) (err error) {
	s := &stack{opts: o, up: make(chan struct{})}
	if s.bin, err = programs(); err != nil {
		return err
	}
	if s.state, err = openState(o.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.state.close()) }()
	if err := s.startGuard(); err != nil {
		return err
	}
	defer s.guard.Dismiss()
	defer s.claims.Release()
	if err := s.prepare(); err != nil {
		return err
	}
	upstream, err := net.Listen("tcp", s.plan.Upstream)
	if err != nil {
		return fmt.Errorf("start sample upstream: %w", err)
	}
	err = run.Group(ctx,
		func(ctx context.Context) error { return sample.Serve(ctx, upstream) },
		func(ctx context.Context) error { return control.Serve(ctx, s.state.dir, s.control) },
		s.live,
	)
	if errors.Is(err, errDone) {
		err = nil
	}
	return err
}

// programs answers the directory of this program, in which the others have to be.
func programs() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	if own, err = filepath.EvalSymlinks(own); err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	dir := filepath.Dir(own)
	for _, name := range []string{controlPlaneProgram, gatewayProgram} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode()&0o111 == 0 {
			return "", fmt.Errorf("%s is not beside %s in %s: run make build", name, filepath.Base(own), dir)
		}
	}
	return dir, nil
}

func (s *stack) startGuard() (err error) {
	own, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	if s.guard, err = guard.Start(own, "dev", guardCommand); err != nil {
		return err
	}
	if s.state.temporary {
		s.guard.Dir(s.state.dir)
	}
	return nil
}

// prepare decides on ports and makes certificates, keys and log files.
func (s *stack) prepare() (err error) {
	o := s.opts
	wish := ports.Wish{Admin: o.Admin, HTTP: o.HTTP, HTTPS: o.HTTPS, Upstream: o.Upstream, Gateways: o.Gateways, Auto: o.Ports == "auto"}
	if s.plan, err = ports.Choose(wish, s.state.path("ports.json"), &s.claims); err != nil {
		return fmt.Errorf("%w\nstop what listens there, or choose other addresses (--admin, --http, --https, --upstream, --ports auto)", err)
	}
	if s.certs, err = devca.Make(s.state.path("tls"), o.Factory.Now(), s.names()); err != nil {
		return err
	}
	if s.tokenFile, err = s.state.secret("admin-token", freshToken); err != nil {
		return err
	}
	if s.token, err = client.ReadToken(s.tokenFile); err != nil {
		return err
	}
	if _, err = s.state.secret("kek", freshKEK); err != nil {
		return err
	}
	if err := s.openLogs(); err != nil {
		return err
	}
	s.procs = supervisor.New(supervisor.Config{Logs: s.logs, Say: s.say, Grace: processGrace})
	return nil
}

// names are what the endpoints' certificate is good for.
func (s *stack) names() []string {
	names := []string{"localhost", "hello.test", "*.test", "127.0.0.1", "::1"}
	for _, addr := range append([]string{s.plan.Admin}, s.plan.HTTPS...) {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err == nil && host != "" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) {
			names = append(names, host)
		}
	}
	return names
}

// openLogs decides where the processes' output goes.
func (s *stack) openLogs() error {
	if s.opts.Logs == "stderr" {
		s.logs = supervisor.NewPrefixer(s.opts.Factory.IO.Err).Named
		return nil
	}
	if err := s.state.mkdirs("log"); err != nil {
		return err
	}
	s.logs = func(name string) io.Writer {
		return logFile(s.state.path("log", name+".log"))
	}
	return nil
}

// logFile appends what a process writes, opening the file each time: it is written rarely, and nobody has to close it.
type logFile string

func (f logFile) Write(p []byte) (int, error) {
	file, err := os.OpenFile(string(f), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.Write(p)
}

// live is the life of the database and the processes.
func (s *stack) live(ctx context.Context) (err error) {
	ending := context.WithoutCancel(ctx)
	defer func() {
		s.say("stopping …")
		s.procs.StopAll(ending)
		err = errors.Join(err, s.stopDatabase(ending))
	}()
	starting, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("it took too long"))
	defer cancel()
	if err := s.start(starting); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	close(s.up)
	watching, stopWatching := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.db.Watch(watching, s.databaseLost) })
	defer func() { stopWatching(); watch.Wait() }()
	vars := s.variables()
	if err := s.announce(vars); err != nil {
		return err
	}
	if s.opts.Exec != "" {
		if err := s.execute(ctx, vars); err != nil {
			return err
		}
		return errDone
	}
	<-ctx.Done()
	return nil
}

func (s *stack) stopDatabase(ctx context.Context) error {
	if s.db == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, databaseGrace)
	defer cancel()
	if err := s.db.Stop(ctx); err != nil && !errors.Is(err, database.ErrGiven) {
		s.say("%v", err)
	}
	return nil
}

func (s *stack) databaseLost() {
	s.say("%s ended by itself; gateways go on serving. It is not restarted; keyward dev start %s does that.", postgres, postgres)
}

// variables are what clients need to know.
func (s *stack) variables() map[string]string {
	return map[string]string{
		"KEYWARD_ADDR":         "https://" + reachable(s.plan.Admin),
		"KEYWARD_TOKEN":        s.token,
		"KEYWARD_CACERT":       s.certs.CA,
		"KEYWARD_HTTP":         strings.Join(s.plan.HTTP, ","),
		"KEYWARD_HTTPS":        strings.Join(s.plan.HTTPS, ","),
		"KEYWARD_STATUS":       strings.Join(s.plan.Status, ","),
		"KEYWARD_DATABASE_URL": s.db.OwnerURL,
		"KEYWARD_UPSTREAM":     s.plan.Upstream,
		dirVariable:            s.state.dir,
		// For those who want to look behind the curtain, or to start a second replica.
		"KEYWARD_RUNTIME_DATABASE_URL": s.db.RuntimeURL,
		"KEYWARD_SYNC":                 s.plan.Sync,
		"KEYWARD_CONTROLPLANE_STATUS":  s.plan.ControlStatus,
	}
}

// reachable replaces an address that means "all" by one to connect to.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// announce says on stdout, in one line, that everything is ready.
func (s *stack) announce(vars map[string]string) error {
	line, err := json.Marshal(vars)
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if _, err := fmt.Fprintf(s.opts.Factory.IO.Out, "%s\n", line); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	s.say("ready: admin API https://%s, gateways %s, upstream %s", reachable(s.plan.Admin), vars["KEYWARD_HTTP"], s.plan.Upstream)
	if s.opts.Exec == "" && s.opts.Factory.IO.ErrTTY {
		s.say("in another terminal: export KEYWARD_ADDR=%s KEYWARD_CACERT=%s KEYWARD_TOKEN=$(cat %s)", vars["KEYWARD_ADDR"], s.certs.CA, s.tokenFile)
	}
	return nil
}

func (s *stack) say(format string, args ...any) {
	s.opts.Factory.IO.Say("keyward dev: "+format, args...)
}

// control does what `keyward dev start|stop` asks for.
func (s *stack) control(ctx context.Context, req control.Request) error {
	select {
	case <-s.up:
	default:
		return errors.New("keyward dev is still starting")
	}
	if known := append(s.procs.Names(), postgres); !slices.Contains(known, req.Name) {
		return fmt.Errorf("%s: %w; there are %s", req.Name, control.ErrNotFound, strings.Join(known, ", "))
	}
	start, stop := s.procs.Start, s.procs.Stop
	if req.Name == postgres {
		start = func(ctx context.Context, _ string) error { return s.db.Restart(ctx) }
		stop = func(ctx context.Context, _ string) error { return s.db.Stop(ctx) }
	}
	switch req.Action {
	case "start":
		s.say("starting %s, as asked", req.Name)
		return start(ctx, req.Name)
	case "stop":
		s.say("stopping %s, as asked", req.Name)
		return stop(ctx, req.Name)
	default:
		return fmt.Errorf("unknown action %q", req.Action)
	}
}

func gatewayName(i int) string { return "gateway-" + strconv.Itoa(i+1) }

// termSignal is what we end processes with.
const termSignal = syscall.SIGTERM
