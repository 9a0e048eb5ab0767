// Package whoami is `keyward whoami`: whose token this is and what it may do.
package whoami

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Show whose token this is and what it may do",
		Args:  factory.Args(""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), f) },
	}
}

func run(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	id, err := adminv1.NewSystemServiceClient(conn).WhoAmI(ctx, &adminv1.WhoAmIRequest{})
	if err != nil {
		return fmt.Errorf("ask who I am: %w", err)
	}
	return f.Print(id, func() error {
		g := render.NewGrid(f.IO, "NAME", "GROUP", "ROLE")
		for _, grant := range id.GetGrants() {
			g.Add(id.GetName(), grant.GetGroup(), grant.GetRole())
		}
		if len(id.GetGrants()) == 0 {
			g.Add(id.GetName(), "-", "-")
		}
		return g.Print()
	})
}
