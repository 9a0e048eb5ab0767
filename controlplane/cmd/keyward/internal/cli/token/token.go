// Package token is `keyward token`: the bearer tokens of the admin API.
package token

import (
	"context"
	"fmt"
	"strings"
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
	cmd := factory.Parent("token", "Manage tokens of the admin API", newCreate(f), newList(f), newDelete(f))
	cmd.Aliases = []string{"tokens"}
	return cmd
}

// createOptions of one run.
type createOptions struct {
	name   string
	grants []string
	ttl    time.Duration
}

func newCreate(f *factory.Factory) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:   "create NAME --grant GROUP=ROLE",
		Short: "Make a token and print it, this once",
		Long: `Make a token of the admin API and print it on stdout, this once.

Roles are viewer (read), operator (also change configuration) and admin (also tokens, gateways, audit);
the group * means all groups. Nobody can give more than they have.`,
		Example: `  keyward token create ci --grant payments=operator --ttl 720h > token
  keyward token create ops --grant '*=admin'`,
		Args: factory.Args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return create(cmd.Context(), f, o)
		},
	}
	cmd.Flags().StringArrayVar(&o.grants, "grant", nil, "GROUP=ROLE; may be repeated")
	cmd.Flags().DurationVar(&o.ttl, "ttl", 0, "how long it is good; 0: until it is deleted")
	return cmd
}

func create(ctx context.Context, f *factory.Factory, o createOptions) error {
	grants, err := parseGrants(o.grants)
	if err != nil {
		return err
	}
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	req := &adminv1.CreateTokenRequest{Name: o.name, Grants: grants}
	if o.ttl > 0 {
		req.Ttl = durationpb.New(o.ttl)
	}
	res, err := adminv1.NewTokenServiceClient(conn).CreateToken(ctx, req)
	if err != nil {
		return fmt.Errorf("create token %s: %w", o.name, err)
	}
	return f.Print(res, func() error {
		f.IO.Say("token %s (%s); it is not shown again", res.GetToken().GetId(), o.name)
		_, err := fmt.Fprintln(f.IO.Out, res.GetSecret())
		return err
	})
}

func parseGrants(words []string) ([]*adminv1.Grant, error) {
	if len(words) == 0 {
		return nil, failure.Usagef("say what it may do with --grant GROUP=ROLE")
	}
	var grants []*adminv1.Grant
	for _, w := range words {
		group, role, ok := strings.Cut(w, "=")
		if !ok || group == "" || role == "" {
			return nil, failure.Usagef("--grant %s: write GROUP=ROLE, e.g. default=operator", w)
		}
		grants = append(grants, &adminv1.Grant{Group: group, Role: role})
	}
	return grants, nil
}

func newList(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List tokens, without their secrets",
		Args:  factory.Args(""),
		RunE:  func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), f) },
	}
}

func list(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewTokenServiceClient(conn).ListTokens(ctx, &adminv1.ListTokensRequest{})
	if err != nil {
		return fmt.Errorf("list tokens: %w", err)
	}
	return f.PrintList(render.Messages(res.GetTokens()), func() error {
		g := render.NewGrid(f.IO, "ID", "NAME", "GRANTS", "CREATED", "EXPIRES")
		for _, t := range res.GetTokens() {
			g.Add(t.GetId(), t.GetName(), grantWords(t.GetGrants()), render.Time(t.GetCreatedAt()), render.Time(t.GetExpires()))
		}
		return g.Print()
	})
}

func grantWords(grants []*adminv1.Grant) string {
	var words []string
	for _, g := range grants {
		words = append(words, g.GetGroup()+"="+g.GetRole())
	}
	return render.Or(strings.Join(words, ","), "-")
}

func newDelete(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID",
		Short: "Make a token useless",
		Args:  factory.Args("ID"),
		RunE:  func(cmd *cobra.Command, args []string) error { return remove(cmd.Context(), f, args[0]) },
	}
}

func remove(ctx context.Context, f *factory.Factory, id string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	if _, err := adminv1.NewTokenServiceClient(conn).DeleteToken(ctx, &adminv1.DeleteTokenRequest{Id: id}); err != nil {
		return fmt.Errorf("delete token %s: %w", id, err)
	}
	f.IO.Say("token %s is deleted", id)
	return nil
}
