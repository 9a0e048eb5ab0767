// Package gateways is `keyward gateways`: which data-plane processes a group has, where they stand, and how to shut one
// out.
package gateways

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	cmd := factory.Parent("gateways", "Show and revoke gateways", newList(f), newDescribe(f), newRevoke(f))
	cmd.Aliases = []string{"gateway"}
	return cmd
}

func newList(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the gateways of a group",
		Long: `List the gateways of a group.

With -o wide the table also has the revisions that each is behind the newest, the digest of the set that it runs, the
replica of the control plane that it is connected to, how it joined, and the policy types that it knows.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), f) },
	}
}

func list(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewGatewayServiceClient(conn).ListGateways(ctx, &adminv1.ListGatewaysRequest{Group: f.Group()})
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	all := res.GetGateways()
	slices.SortFunc(all, func(a, b *adminv1.Gateway) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return f.PrintWideList(render.Messages(all), func(wide bool) error {
		if len(all) == 0 {
			f.IO.Say("no gateway has joined group %s (keyward join-token create lets them)", f.Group())
			return nil
		}
		heads := []string{"ID", "STATE", "REVISION", "FAULTS", "VERSION", "LAST SEEN", "CERTIFICATE UNTIL", "LABELS"}
		if wide {
			heads = append(heads, "LAG", "DIGEST", "REPLICA", "JOINED BY", "POLICY TYPES")
		}
		g := render.NewGrid(f.IO, heads...)
		for _, gw := range all {
			cells := row(gw)
			if wide {
				cells = append(cells, more(gw)...)
			}
			g.AddCells(cells...)
		}
		return g.Print()
	})
}

func row(gw *adminv1.Gateway) []render.Cell {
	return []render.Cell{
		{Text: gw.GetId()},
		{Text: gw.GetState(), Colour: colour(gw.GetState())},
		{Text: strconv.FormatInt(gw.GetAppliedRevision(), 10)},
		{Text: strconv.Itoa(len(gw.GetFaults()))},
		{Text: render.Or(gw.GetVersion(), "-")},
		{Text: render.Time(gw.GetLastSeen())},
		{Text: render.Time(gw.GetCertificateExpires())},
		{Text: render.Or(labels(gw.GetLabels()), "-")},
	}
}

// more are the cells that only a wide table has.
func more(gw *adminv1.Gateway) []render.Cell {
	const enough = 12 // digits of a digest, to tell sets apart by eye
	digest := gw.GetAppliedDigest()
	return []render.Cell{
		{Text: strconv.FormatInt(gw.GetLag(), 10)},
		{Text: render.Or(digest[:min(enough, len(digest))], "-")},
		{Text: render.Or(gw.GetReplica(), "-")},
		{Text: gw.GetAttestor()},
		{Text: render.Or(strings.Join(gw.GetPolicyTypes(), ","), "-")},
	}
}

func colour(state string) terminal.Colour {
	switch state {
	case "online":
		return terminal.Green
	case "lagging":
		return terminal.Yellow
	case "rejecting", "revoked":
		return terminal.Red
	default:
		return terminal.Faint
	}
}

func labels(all map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		pairs = append(pairs, k+"="+all[k])
	}
	return strings.Join(pairs, ",")
}

func newDescribe(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "describe ID",
		Short: "Show everything known about a gateway",
		Args:  factory.Args("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return describe(cmd.Context(), f, args[0]) },
	}
}

func describe(ctx context.Context, f *factory.Factory, id string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	gw, err := adminv1.NewGatewayServiceClient(conn).GetGateway(ctx, &adminv1.GetGatewayRequest{Group: f.Group(), Id: id})
	if err != nil {
		return fmt.Errorf("describe gateway %s: %w", id, err)
	}
	return f.Print(gw, func() error {
		p, err := f.Printer()
		if err != nil {
			return err
		}
		return p.Message(f.IO.Out, render.YAML, gw)
	})
}

func newRevoke(f *factory.Factory) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Shut a gateway out for good",
		Long: `Shut a gateway out for good: its stream ends within a second and none of its certificates is accepted again.

It goes on serving what it has in memory until it is stopped; stop it, or take it off the network.`,
		Args: factory.Args("ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return revoke(cmd.Context(), f, args[0], reason) },
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit chain")
	return cmd
}

func revoke(ctx context.Context, f *factory.Factory, id, reason string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	gw, err := adminv1.NewGatewayServiceClient(conn).RevokeGateway(ctx, &adminv1.RevokeGatewayRequest{Group: f.Group(), Id: id, Reason: reason})
	if err != nil {
		return fmt.Errorf("revoke gateway %s: %w", id, err)
	}
	return f.Print(gw, func() error {
		f.IO.Say("gateway %s is revoked", id)
		return nil
	})
}
