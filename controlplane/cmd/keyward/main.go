// Command keyward is the operator's command line: it speaks to the control plane's admin API, and runs everything on one
// machine with `keyward dev`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"keyward.dev/controlplane/cmd/keyward/internal/cli"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/client"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

func main() {
	os.Exit(run())
}

func run() int {
	f := &factory.Factory{IO: terminal.System(), Getenv: os.Getenv, Now: time.Now, Dial: client.Dial}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	go watch(signals, f, cancel) // ends with the process
	return cli.Main(ctx, f, os.Args[1:])
}

// watch ends the command in order at the first signal, and at once at the second.
func watch(signals <-chan os.Signal, f *factory.Factory, cancel context.CancelFunc) {
	for asked := false; ; {
		sig := <-signals
		switch {
		case sig == os.Interrupt && f.LeaveInterrupt.Load():
		case asked:
			os.Exit(failure.Failed)
		default:
			asked = true
			cancel()
		}
	}
}
