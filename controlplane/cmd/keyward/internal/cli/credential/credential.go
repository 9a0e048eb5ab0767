// Package credential is `keyward credential`: secrets that the control plane makes. They are printed on stdout, this
// once, and nothing else is, so that they can be piped to where they are kept. And it lists credentials with their use.
package credential

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	cmd := factory.Parent("credential", "Generate and rotate credentials, and find those that nobody uses", newGenerate(f), newRotate(f), newList(f))
	cmd.Aliases = []string{"credentials"}
	return cmd
}

// generateOptions of one run.
type generateOptions struct {
	consumer, name, kind string
	notBefore, expires   string
	bound                []string
}

func newGenerate(f *factory.Factory) *cobra.Command {
	var o generateOptions
	cmd := &cobra.Command{
		Use:   "generate CONSUMER NAME",
		Short: "Make a credential with a fresh secret and print it, this once",
		Example: `  KEY=$(keyward credential generate alice alice-1)
  keyward credential generate alice alice-2 --expires 720h`,
		Args: factory.Args("CONSUMER NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.consumer, o.name = args[0], args[1]
			return generate(cmd.Context(), f, o)
		},
	}
	cmd.Flags().StringVar(&o.kind, "type", "key-auth", "credential type")
	cmd.Flags().StringVar(&o.notBefore, "not-before", "", "not valid before: a time (RFC 3339) or a duration from now")
	cmd.Flags().StringVar(&o.expires, "expires", "", "not valid from: a time (RFC 3339) or a duration from now")
	cmd.Flags().StringSliceVar(&o.bound, "bound-certificate", nil, "client certificate without which it does not count, by name or id; several: one of them")
	return cmd
}

func generate(ctx context.Context, f *factory.Factory, o generateOptions) error {
	notBefore, err := moment(f.Now(), "not-before", o.notBefore)
	if err != nil {
		return err
	}
	expires, err := moment(f.Now(), "expires", o.expires)
	if err != nil {
		return err
	}
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).GenerateCredential(ctx, &adminv1.GenerateCredentialRequest{
		Group: f.Group(), Parent: o.consumer, Name: o.name, Type: o.kind, NotBefore: notBefore, Expires: expires,
		BoundCertificate: o.bound,
	})
	if err != nil {
		return fmt.Errorf("generate credential %s/%s: %w", o.consumer, o.name, err)
	}
	return show(f, o.consumer, res)
}

// moment understands a time or a duration from now; nil if nothing is given.
func moment(now time.Time, flag, s string) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return timestamppb.New(t), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, failure.Usagef("--%s %s: give a time such as 2027-01-31T12:00:00Z, or a duration such as 720h", flag, s)
	}
	return timestamppb.New(now.Add(d)), nil
}

// rotateOptions of one run.
type rotateOptions struct {
	consumer, name, newName string
	overlap                 time.Duration
}

func newRotate(f *factory.Factory) *cobra.Command {
	var o rotateOptions
	cmd := &cobra.Command{
		Use:   "rotate CONSUMER NAME",
		Short: "Make a successor with a fresh secret and let the old one expire",
		Long: `Make a successor of a credential, with a fresh secret that is printed on stdout, this once. The old one stays
valid for the overlap.`,
		Example: `  keyward credential rotate alice alice-1 --overlap 72h`,
		Args:    factory.Args("CONSUMER NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.consumer, o.name = args[0], args[1]
			return rotate(cmd.Context(), f, o)
		},
	}
	cmd.Flags().StringVar(&o.newName, "new-name", "", "name of the successor (else the name with its number counted up)")
	cmd.Flags().DurationVar(&o.overlap, "overlap", 24*time.Hour, "how long both are valid; 0s: the old one ends now")
	return cmd
}

func rotate(ctx context.Context, f *factory.Factory, o rotateOptions) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	overlap := int64(o.overlap / time.Second)
	if overlap <= 0 {
		overlap = -1 // in the API 0 means the default
	}
	res, err := adminv1.NewResourceServiceClient(conn).RotateCredential(ctx, &adminv1.RotateCredentialRequest{
		Group: f.Group(), Parent: o.consumer, Name: o.name, NewName: o.newName, OverlapSeconds: overlap,
	})
	if err != nil {
		return fmt.Errorf("rotate credential %s/%s: %w", o.consumer, o.name, err)
	}
	return show(f, o.consumer, res)
}

func show(f *factory.Factory, consumer string, res *adminv1.GenerateCredentialResponse) error {
	return f.Print(res, func() error {
		var c configv1.Credential
		if err := res.GetResource().UnmarshalTo(&c); err != nil {
			return fmt.Errorf("read credential: %w", err)
		}
		f.IO.Say("credential %s/%s at revision %d; its secret is not shown again", consumer, c.GetName(), res.GetRevision())
		_, err := fmt.Fprintln(f.IO.Out, res.GetSecret())
		return err
	})
}
