// Package jointoken is `keyward join-token`: what lets new gateways into a group.
package jointoken

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	cmd := factory.Parent("join-token", "Let gateways into a group", newCreate(f), newList(f), newDelete(f))
	cmd.Aliases = []string{"join-tokens"}
	return cmd
}

// createOptions of one run.
type createOptions struct {
	uses        int32
	ttl         time.Duration
	description string
}

func newCreate(f *factory.Factory) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a join token and print it, this once",
		Long: `Make a join token and print it on stdout, this once. It carries the hash of the control plane's root key, so a
gateway that has it knows whom to trust.`,
		Example: `  keyward join-token create --uses 3 --ttl 1h > join-token
  keyward-dataplane --join-token-file join-token --control-plane gateway-api.internal:7444`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.uses < 1 || o.ttl <= 0 {
				return failure.Usagef("--uses and --ttl must be positive")
			}
			return create(cmd.Context(), f, o)
		},
	}
	cmd.Flags().Int32Var(&o.uses, "uses", 1, "gateways that may join with it")
	cmd.Flags().DurationVar(&o.ttl, "ttl", time.Hour, "how long it is good (at most 720h)")
	cmd.Flags().StringVar(&o.description, "description", "", "free text")
	return cmd
}

func create(ctx context.Context, f *factory.Factory, o createOptions) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewGatewayServiceClient(conn).CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{
		Group: f.Group(), Uses: o.uses, Ttl: durationpb.New(o.ttl), Description: o.description,
	})
	if err != nil {
		return fmt.Errorf("create join token: %w", err)
	}
	return f.Print(res, func() error {
		t := res.GetToken()
		f.IO.Say("join token %s for group %s: good for %d gateway(s) until %s; it is not shown again",
			t.GetId(), t.GetGroup(), t.GetUses(), render.Time(t.GetExpires()))
		_, err := fmt.Fprintln(f.IO.Out, res.GetSecret())
		return err
	})
}

func newList(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List join tokens",
		Args:  factory.Args(""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), f) },
	}
}

func list(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewGatewayServiceClient(conn).ListJoinTokens(ctx, &adminv1.ListJoinTokensRequest{Group: f.Group()})
	if err != nil {
		return fmt.Errorf("list join tokens: %w", err)
	}
	return f.PrintList(render.Messages(res.GetTokens()), func() error {
		g := render.NewGrid(f.IO, "ID", "USED", "EXPIRES", "CREATED", "DESCRIPTION")
		for _, t := range res.GetTokens() {
			g.Add(t.GetId(), fmt.Sprintf("%d of %d", t.GetUsed(), t.GetUses()), render.Time(t.GetExpires()), render.Time(t.GetCreatedAt()), t.GetDescription())
		}
		return g.Print()
	})
}

func newDelete(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID",
		Short: "Make a join token useless",
		Args:  factory.Args("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return remove(cmd.Context(), f, args[0]) },
	}
}

func remove(ctx context.Context, f *factory.Factory, id string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	_, err = adminv1.NewGatewayServiceClient(conn).DeleteJoinToken(ctx, &adminv1.DeleteJoinTokenRequest{Group: f.Group(), Id: id})
	if err != nil {
		return fmt.Errorf("delete join token %s: %w", id, err)
	}
	f.IO.Say("join token %s is deleted; gateways that joined with it stay", id)
	return nil
}
