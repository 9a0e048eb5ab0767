// Command keyward-controlplane is the control plane: it stores sealed configuration in PostgreSQL and streams it to
// gateways. Its subcommands are one struct each in package app; this file only chooses.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"keyward.dev/controlplane/app"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

const usage = `keyward-controlplane stores sealed configuration and streams it to gateways.

Usage:
  keyward-controlplane serve      run
  keyward-controlplane migrate    bring the database to this program's schema
  keyward-controlplane bootstrap  make the installation: keys, CA, first group, first token
  keyward-controlplane check-db   open every group and say how it is
  keyward-controlplane backup     write everything to one sealed file
  keyward-controlplane backup verify  read such a file to its end and say what is in it
  keyward-controlplane restore    put a backup back (--in FILE); or, after a restore by other means or a lossy fail-over,
                                  declare what the database holds to be the truth
  keyward-controlplane keyring recovery-key  make the key that opens backups of keyrings
  keyward-controlplane keyring backup        back all keyrings up, sealed to a recovery key
  keyward-controlplane keyring restore       put them back under a new key-encryption key
  keyward-controlplane version

Flags: keyward-controlplane COMMAND --help
Exits with 0 if all went well, 1 if it failed, 2 if the command line is wrong, 3 if a backup is refused, 4 if the database
is not empty.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is what the subcommands have in common.
type command interface {
	Flags(fs *flag.FlagSet)
	Check() error
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	if len(args) > 1 && (args[0] == "keyring" || args[0] == "backup" && args[1] == "verify") {
		args = append([]string{args[0] + " " + args[1]}, args[2:]...)
	}
	var cmd command
	var act func() error
	logger := func(o telemetry.LogOptions) *slog.Logger { return telemetry.NewLogger(stderr, o, "controlplane") }
	switch args[0] {
	case "serve":
		s := &app.Settings{}
		cmd, act = s, func() error { return app.Serve(ctx, *s, logger(s.Log)) }
	case "migrate":
		m := &app.Migrate{}
		cmd, act = m, func() error { return m.Run(ctx, logger(m.Log)) }
	case "bootstrap":
		b := &app.Bootstrap{}
		cmd, act = b, func() error { return b.Run(ctx, stdout, logger(b.Log)) }
	case "check-db":
		c := &app.CheckDB{}
		cmd, act = c, func() error { return c.Run(ctx, stdout) }
	case "restore":
		r := &app.Restore{}
		cmd, act = r, func() error { return r.Run(ctx, stdout, stderr, logger(r.Log)) }
	case "backup":
		b := &app.Backup{}
		cmd, act = b, func() error { return b.Run(ctx, stdout, stderr, logger(b.Log)) }
	case "backup verify":
		v := &app.BackupVerify{}
		cmd, act = v, func() error { return v.Run(ctx, stdout, stderr) }
	case "keyring recovery-key":
		k := &app.RecoveryKey{}
		cmd, act = k, func() error { return k.Run(stdout) }
	case "keyring backup":
		b := &app.KeyringBackup{}
		cmd, act = b, func() error { return b.Run(ctx, stdout, logger(b.Log)) }
	case "keyring restore":
		r := &app.KeyringRestore{}
		cmd, act = r, func() error { return r.Run(ctx, stdout, logger(r.Log)) }
	case "version":
		fmt.Fprintln(stdout, telemetry.Version())
		return 0
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	default:
		fmt.Fprintf(stderr, "unknown command %q\n\n%s", args[0], usage)
		return 2
	}
	fs := flag.NewFlagSet("keyward-controlplane "+args[0], flag.ContinueOnError)
	fs.SetOutput(stderr)
	cmd.Flags(fs)
	if err := settings.Parse(fs, args[1:], os.LookupEnv); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintln(stderr, err)
		return 2
	}
	if err := cmd.Check(); err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if err := act(); err != nil {
		fmt.Fprintln(stderr, "keyward-controlplane "+args[0]+": "+err.Error())
		return app.ExitCode(err)
	}
	return 0
}
