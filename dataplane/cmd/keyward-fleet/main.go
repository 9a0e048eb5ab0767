// Command keyward-fleet simulates thousands of gateways that stream from a control plane, to test how it copes with them.
// It serves no traffic. It only reads settings; package fleet is the simulator.
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

	"keyward.dev/dataplane/internal/fleet"
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
	var s fleet.Settings
	fs := flag.NewFlagSet("keyward-fleet", flag.ContinueOnError)
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
	log := telemetry.NewLogger(stderr, s.Log, "fleet")
	if err := fleet.Run(ctx, s, stdout, log); err != nil {
		log.ErrorContext(ctx, "fleet ended", "err", err)
		return 1
	}
	return 0
}
