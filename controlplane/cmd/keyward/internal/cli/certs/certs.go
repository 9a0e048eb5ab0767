// Package certs is `keyward certs`: what certificates a group has, when they end, and renewing them. Private keys go up and
// never come back.
package certs

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

const (
	kind   = "certificates"
	kindCA = "ca-certificates"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	cmd := factory.Parent("certs", "Show, add and renew certificates", newList(f), newGet(f), newAdd(f), newPromote(f), newRenew(f), newDelete(f))
	cmd.Aliases = []string{"cert"}
	return cmd
}

func newGet(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:     "get NAME|ID",
		Short:   "Show a certificate with all its versions",
		Example: `  keyward certs get web`,
		Args:    factory.Args("NAME|ID"),
		RunE:    func(cmd *cobra.Command, args []string) error { return get(cmd.Context(), f, args[0]) },
	}
}

func get(ctx context.Context, f *factory.Factory, name string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).Get(ctx, &adminv1.GetRequest{Group: f.Group(), Kind: kind, Name: name})
	if err != nil {
		return fmt.Errorf("get certificate %s: %w", name, err)
	}
	m, err := res.GetResource().UnmarshalNew()
	if err != nil {
		return fmt.Errorf("get certificate %s: %w", name, err)
	}
	return f.Print(m, func() error {
		p, err := f.Printer()
		if err != nil {
			return err
		}
		return p.Message(f.IO.Out, render.YAML, m)
	})
}

func newPromote(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "promote NAME|ID",
		Short: "Make the next version of a certificate the current one",
		Long: `Make the next version of a certificate the current one. The one before stays as its previous version: its id is still
known, and keyward certs add brings it back.`,
		Example: `  keyward certs add web -f next.pem --stage next
  keyward certs promote web`,
		Args: factory.Args("NAME|ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return promote(cmd.Context(), f, args[0]) },
	}
}

func promote(ctx context.Context, f *factory.Factory, name string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).PromoteCertificate(ctx, &adminv1.PromoteCertificateRequest{Group: f.Group(), Name: name})
	if err != nil {
		return fmt.Errorf("promote certificate %s: %w", name, err)
	}
	return written(f, "promoted", res)
}

func newRenew(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "renew NAME",
		Short: "Have an ACME authority issue a certificate anew, now",
		Long: `Have an ACME authority issue a certificate anew, now instead of in time, with a new private key. The one that is in use stays
in use until then; keyward certs get NAME says what came of it.`,
		Example: `  keyward certs renew web`,
		Args:    factory.Args("NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return renew(cmd.Context(), f, args[0]) },
	}
}

func renew(ctx context.Context, f *factory.Factory, name string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).RenewCertificate(ctx, &adminv1.RenewCertificateRequest{Group: f.Group(), Name: name})
	if err != nil {
		return fmt.Errorf("renew certificate %s: %w", name, err)
	}
	return f.Print(res, func() error {
		f.IO.Say("certificate %s is being issued anew", name)
		return nil
	})
}

func newDelete(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME|ID",
		Short: "Remove a certificate, or one of its versions",
		Long: `Remove a certificate. By the id of its next or previous version only that version is removed. What is used is not
removed; the control plane says by what.`,
		Args: factory.Args("NAME|ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return remove(cmd.Context(), f, args[0]) },
	}
}

func remove(ctx context.Context, f *factory.Factory, name string) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).Delete(ctx, &adminv1.DeleteRequest{Group: f.Group(), Kind: kind, Name: name})
	if err != nil {
		return fmt.Errorf("delete certificate %s: %w", name, err)
	}
	return f.Print(res, func() error {
		f.IO.Say("deleted certificate %s at revision %d", name, res.GetRevision())
		return nil
	})
}
