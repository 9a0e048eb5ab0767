// Command keyward-dataplane is a gateway: it takes its configuration from the control plane, keeps it in memory and
// enforces it on live traffic, also while the control plane is away. It only reads settings; package app is the gateway.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"keyward.dev/dataplane/app"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "version" {
		fmt.Fprintln(stdout, telemetry.Version())
		return 0
	}
	var s app.Settings
	fs := flag.NewFlagSet("keyward-dataplane", flag.ContinueOnError)
	fs.SetOutput(stderr)
	s.Flags(fs)
	err := settings.Parse(fs, args, os.LookupEnv)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err = errors.Join(err, s.Check()); err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	log := telemetry.NewLogger(stderr, s.Log, "gateway")
	if err := profile(); err != nil {
		log.ErrorContext(ctx, "gateway cannot be profiled", "err", err)
		return 1
	}
	if err := app.Run(ctx, s, stdout, log); err != nil {
		log.ErrorContext(ctx, "gateway ended", "err", err)
		return 1
	}
	log.InfoContext(ctx, "gateway ended")
	return 0
}
