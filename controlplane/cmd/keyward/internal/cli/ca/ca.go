// Package ca is `keyward ca`: the certificate authorities by which gateways and the control plane know each other. It never sees
// a private key.
package ca

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	cmd := factory.Parent("ca", "Show and rotate the certificate authorities of the installation", newList(f), newShow(f), newRotate(f))
	cmd.Long = `Show and rotate the certificate authorities of the installation: the root, which gateways trust, and the intermediate under
it, which issues their certificates and those of the control plane.`
	return cmd
}

func newList(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the authorities",
		Long: `List the authorities that are not retired, and what to know before the next step of a rotation: how many connected
gateways have taken over the trust bundle, and what still hangs on the root that was current before.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return do(cmd.Context(), f, "list authorities", func(ctx context.Context, c adminv1.AuthorityServiceClient) (*adminv1.Trust, error) {
				return c.ListAuthorities(ctx, &adminv1.ListAuthoritiesRequest{})
			}, lines)
		},
	}
}

func newShow(f *factory.Factory) *cobra.Command {
	var bundle bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the pin of the current root, or the trust bundle",
		Long: `Print the pin of the current root, the SHA-256 of its public key: what --root-spki of gateways takes and new join tokens
carry. With --bundle, print the roots to trust instead, as PEM: what KEYWARD_CACERT of this command takes.`,
		Example: `  keyward ca show --bundle > ca.pem`,
		Args:    factory.Args(""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return show(cmd.Context(), f, bundle) },
	}
	cmd.Flags().BoolVar(&bundle, "bundle", false, "print the roots to trust")
	return cmd
}

func show(ctx context.Context, f *factory.Factory, bundle bool) error {
	c, err := dial(f)
	if err != nil {
		return err
	}
	t, err := c.ListAuthorities(ctx, &adminv1.ListAuthoritiesRequest{})
	if err != nil {
		return fmt.Errorf("show authorities: %w", err)
	}
	return f.Print(t, func() error {
		text := t.GetPin() + "\n"
		if bundle {
			text = t.GetTrustBundle()
		}
		_, err := fmt.Fprint(f.IO.Out, text)
		return err
	})
}

type call func(context.Context, adminv1.AuthorityServiceClient) (*adminv1.Trust, error)

// do does something with the authorities, and shows them and what there is to say then.
func do(ctx context.Context, f *factory.Factory, doing string, ask call, say func(*adminv1.Trust) []string) error {
	c, err := dial(f)
	if err != nil {
		return err
	}
	t, err := ask(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return f.Print(t, func() error {
		if err := table(f, t.GetAuthorities()); err != nil {
			return err
		}
		for _, line := range say(t) {
			f.IO.Say("%s", line)
		}
		return nil
	})
}

func dial(f *factory.Factory) (adminv1.AuthorityServiceClient, error) {
	conn, err := f.Conn()
	if err != nil {
		return nil, err
	}
	return adminv1.NewAuthorityServiceClient(conn), nil
}

func table(f *factory.Factory, authorities []*adminv1.Authority) error {
	g := render.NewGrid(f.IO, "KIND", "ID", "STATE", "SUBJECT", "NOT BEFORE", "NOT AFTER", "PIN")
	for _, a := range authorities {
		g.Add(a.GetKind(), render.Short(a.GetId()), a.GetState(), a.GetSubject(), render.Time(a.GetNotBefore()), render.Time(a.GetNotAfter()), a.GetPin())
	}
	return g.Print()
}

// lines say who relies on what.
func lines(t *adminv1.Trust) []string {
	aware := int(t.GetConnected()) - len(t.GetUnaware())
	out := []string{fmt.Sprintf("%d of %d connected gateways have taken over the trust bundle", aware, t.GetConnected())}
	if len(t.GetUnaware()) > 0 {
		out = append(out, "not yet: "+some(t.GetUnaware()))
	}
	if f := t.GetFormer(); f != nil {
		out = append(out, former(f, "hang on")...)
	}
	return out
}

// former says what hangs on a root, or ended with it.
func former(f *adminv1.FormerRoot, verb string) []string {
	out := []string{fmt.Sprintf("%d good gateway certificates, %d that have expired but can be renewed, and %d join tokens %s root %s",
		len(f.GetHolders()), f.GetRenewable(), f.GetJoinTokens(), verb, render.Short(f.GetId()))}
	if len(f.GetHolders()) > 0 {
		out = append(out, "good ones have: "+some(f.GetHolders()))
	}
	return out
}

// some names a few of many.
func some(names []string) string {
	const few = 20
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
