// Package dev is `keyward dev`: everything on one machine, as a person tries it out and as end-to-end tests want it. A
// throw-away PostgreSQL, the control plane, gateways and a sample upstream, each as they run in production, with
// certificates, keys and passwords made for the occasion. It starts and stops processes and calls the admin API; it has no
// part in what they do.
package dev

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/control"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/demo"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/guard"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/ports"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// dirVariable tells commands that `keyward dev --exec` runs where the state directory is.
const dirVariable = "KEYWARD_DEV_DIR"

// Options of one run.
type Options struct {
	Factory *factory.Factory

	// Dir is the state directory; empty: a temporary one, removed at the end.
	Dir string
	// Postgres is the URL of a server to use; empty: a throw-away one.
	Postgres string
	Gateways int
	Exec     string
	// Ports is "fixed" or "auto".
	Ports                        string
	Admin, HTTP, HTTPS, Upstream string
	// Logs is "stderr", "files", or empty: files if a command is run, whose output they would disturb, else stderr.
	Logs      string
	LogLevel  string
	AccessLog bool
}

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine",
		Long: `Run everything on this machine: PostgreSQL, control plane, gateways and a sample upstream.

When all gateways are ready, the first line on stdout is a JSON object with the variables that the keyward command and
clients need: KEYWARD_ADDR, KEYWARD_TOKEN, KEYWARD_CACERT; KEYWARD_HTTP, KEYWARD_HTTPS and KEYWARD_STATUS of the gateways,
separated by commas; KEYWARD_UPSTREAM; KEYWARD_DEV_DIR, the state directory; KEYWARD_DATABASE_URL of the database's owner
and KEYWARD_RUNTIME_DATABASE_URL of the control plane's role; KEYWARD_SYNC and KEYWARD_CONTROLPLANE_STATUS. Everything
else goes to stderr. With --exec, a command is run with these variables; when it ends, so does everything, with its exit
status.

A process that dies is reported and not restarted: keyward dev start and stop do that. Ctrl-C ends everything.`,
		Example: `  keyward dev
  keyward dev --gateways 2 --dir ./state
  keyward dev --ports auto --exec 'keyward apply -f gateway.yaml --wait && ./try-it.sh'`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return err
			}
			return Run(cmd.Context(), opts)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.Dir, "dir", "", "state directory, kept for the next run (else a temporary one)")
	fs.StringVar(&opts.Postgres, "postgres", "", "URL of a PostgreSQL database to use (else a throw-away server)")
	fs.IntVar(&opts.Gateways, "gateways", 1, "number of gateways")
	fs.StringVar(&opts.Exec, "exec", "", "command to run by sh -c once everything is ready")
	fs.StringVar(&opts.Ports, "ports", "fixed", "fixed, or auto for free ports")
	fs.StringVar(&opts.Admin, "admin", "", "address of the admin API (default "+ports.DefaultAdmin+")")
	fs.StringVar(&opts.HTTP, "http", "", "HTTP address of the first gateway; the next take the following ports (default "+ports.DefaultHTTP+")")
	fs.StringVar(&opts.HTTPS, "https", "", "HTTPS address of the first gateway, likewise (default "+ports.DefaultHTTPS+")")
	fs.StringVar(&opts.Upstream, "upstream", "", "address of the sample upstream (default "+ports.DefaultUpstream+")")
	fs.StringVar(&opts.Logs, "logs", "", "where the processes' logs go: stderr, or files in the state directory (default stderr, with --exec files)")
	fs.StringVar(&opts.LogLevel, "log-level", "info", "log level of the processes")
	fs.BoolVar(&opts.AccessLog, "access-log", true, "let gateways log requests")
	cmd.AddCommand(newControl("start", "Start a process that was stopped or died"), newControl("stop", "Stop a process"), newGuard(), newDemo(f))
	return cmd
}

func (o *Options) check() error {
	switch {
	case o.Gateways < 0 || o.Gateways > 100:
		return failure.Usagef("--gateways must be between 0 and 100")
	case o.Ports != "fixed" && o.Ports != "auto":
		return failure.Usagef("--ports %s: give fixed or auto", o.Ports)
	case o.Logs != "" && o.Logs != "stderr" && o.Logs != "files":
		return failure.Usagef("--logs %s: give stderr or files", o.Logs)
	}
	if o.Logs == "" {
		o.Logs = "stderr"
		if o.Exec != "" {
			o.Logs = "files"
		}
	}
	return nil
}

// newControl makes `keyward dev start` and `keyward dev stop`.
func newControl(action, short string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   action + " NAME",
		Short: short,
		Long: short + ` of a running keyward dev:
controlplane, postgres, or gateway-1, gateway-2 and so on. It keeps its ports. The command returns when that is done.`,
		Args: factory.Args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				dir = os.Getenv(dirVariable)
			}
			if dir == "" {
				return failure.Usagef("say which keyward dev with --dir, the state directory it was started with")
			}
			return control.Call(cmd.Context(), dir, control.Request{Action: action, Name: canonical(args[0])})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "state directory of the running keyward dev ("+dirVariable+")")
	return cmd
}

// canonical understands the names people give to processes.
func canonical(name string) string {
	name = strings.ToLower(name)
	switch name {
	case "control-plane", "keyward-controlplane", "cp":
		return controlPlane
	case "gateway", "keyward-dataplane", "dataplane":
		return gatewayName(0)
	}
	return name
}

// newGuard makes the command that keyward dev starts for itself; see package guard.
func newGuard() *cobra.Command {
	return &cobra.Command{
		Use:    guardCommand,
		Hidden: true,
		Args:   factory.Args(""),
		RunE:   func(*cobra.Command, []string) error { return guard.Watch(os.Stdin) },
	}
}

const guardCommand = "guard"

// newDemo makes `keyward dev demo`, which runs inside `keyward dev --exec`.
func newDemo(f *factory.Factory) *cobra.Command {
	opts := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what Keyward does, against a running keyward dev",
		Long: `Show what Keyward does, with real requests: authentication, access control, rate limits, life without the control
plane, and a change going live. It needs the variables of keyward dev:

  keyward dev --gateways 2 --exec 'keyward dev demo'`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), f, opts) },
	}
	cmd.Flags().StringVarP(&opts.File, "file", "f", "docs/examples/quickstart.yaml", "document to apply")
	cmd.Flags().BoolVar(&opts.Check, "check", false, "end after the last step instead of staying up")
	return cmd
}

func runDemo(ctx context.Context, f *factory.Factory, opts demo.Options) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	opts.Dir = f.Getenv(dirVariable)
	opts.Getenv = f.Getenv
	opts.IO = f.IO
	opts.Conn = conn
	opts.Now = f.Now
	opts.Program, err = os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	return demo.Run(ctx, opts)
}
