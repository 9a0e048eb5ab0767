// Package groups is `keyward groups`: the gateway groups of the installation.
package groups

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	cmd := factory.Parent("groups", "Create and show gateway groups", newCreate(f), newList(f), newGet(f))
	cmd.Aliases = []string{"group"}
	return cmd
}

func newCreate(f *factory.Factory) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a gateway group",
		Long:  "Make a gateway group, with keys of its own. A name is never used again for another group.",
		Args:  factory.Args("NAME"),
		RunE:  func(cmd *cobra.Command, args []string) error { return create(cmd.Context(), f, args[0], description) },
	}
	cmd.Flags().StringVar(&description, "description", "", "free text")
	return cmd
}

func create(ctx context.Context, f *factory.Factory, name, description string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	g, err := adminv1.NewGroupServiceClient(conn).CreateGroup(ctx, &adminv1.CreateGroupRequest{Name: name, Description: description})
	if err != nil {
		return fmt.Errorf("create group %s: %w", name, err)
	}
	return f.Print(g, func() error {
		f.IO.Say("group %s is created", g.GetName())
		return nil
	})
}

func newList(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the groups you may see",
		Args:  factory.Args(""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), f) },
	}
}

func list(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewGroupServiceClient(conn).ListGroups(ctx, &adminv1.ListGroupsRequest{})
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	return f.PrintList(render.Messages(res.GetGroups()), func() error { return table(f, res.GetGroups()...) })
}

func newGet(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Show a group and where it stands",
		Args:  factory.Args("NAME"),
		RunE:  func(cmd *cobra.Command, args []string) error { return get(cmd.Context(), f, args[0]) },
	}
}

func get(ctx context.Context, f *factory.Factory, name string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	g, err := adminv1.NewGroupServiceClient(conn).GetGroup(ctx, &adminv1.GetGroupRequest{Group: name})
	if err != nil {
		return fmt.Errorf("get group %s: %w", name, err)
	}
	return f.Print(g, func() error { return table(f, g) })
}

func table(f *factory.Factory, groups ...*adminv1.Group) error {
	grid := render.NewGrid(f.IO, "NAME", "REVISION", "DIGEST", "GATEWAYS", "CREATED", "DESCRIPTION")
	for _, g := range groups {
		grid.Add(g.GetName(), strconv.FormatInt(g.GetRevision(), 10), render.Or(render.Short(g.GetDigest()), "-"),
			strconv.Itoa(int(g.GetConnectedGateways())), render.Time(g.GetCreatedAt()), g.GetDescription())
	}
	return grid.Print()
}
