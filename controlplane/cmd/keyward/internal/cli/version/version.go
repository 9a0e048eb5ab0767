// Package version is `keyward version`: the versions of this program and of the control plane it speaks to.
package version

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/telemetry"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// patience bounds the question to the control plane: the own version is worth telling without it.
const patience = 5 * time.Second

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	var only bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of this program and of the control plane",
		Args:  factory.Args(""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), f, only) },
	}
	cmd.Flags().BoolVar(&only, "client", false, "of this program only")
	return cmd
}

func run(ctx context.Context, f *factory.Factory, only bool) error {
	own := Own()
	target, err := f.Target()
	if err != nil {
		return err
	}
	if only || target.Addr == "" {
		return f.Print(own, func() error { return table(f, own, nil) })
	}
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	server, err := adminv1.NewSystemServiceClient(conn).GetVersion(ctx, &adminv1.GetVersionRequest{})
	if err != nil {
		_ = table(f, own, nil)
		return fmt.Errorf("ask the control plane for its version: %w", err)
	}
	return f.Print(server, func() error { return table(f, own, server) })
}

func table(f *factory.Factory, own, server *adminv1.Version) error {
	g := render.NewGrid(f.IO, "PROGRAM", "VERSION", "COMMIT", "GO")
	g.Add("keyward", own.GetVersion(), render.Or(render.Short(own.GetCommit()), "-"), own.GetGoVersion())
	if server != nil {
		g.Add("control plane", server.GetVersion(), render.Or(render.Short(server.GetCommit()), "-"), server.GetGoVersion())
	}
	return g.Print()
}

// Own answers what was built into this program.
func Own() *adminv1.Version {
	return &adminv1.Version{Version: telemetry.Version(), GoVersion: runtime.Version()}
}
