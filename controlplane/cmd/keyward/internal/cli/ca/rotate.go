package ca

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

func newRotate(f *factory.Factory) *cobra.Command {
	root := factory.Parent("root", "Replace the root, in three steps", newPrepare(f), newActivate(f), newRetire(f))
	root.Long = `Replace the root, in three steps: prepare makes the next one and gives it to every gateway, activate issues under it, retire
ends the trust in the one before. Between the steps is as much time as you like; keyward ca list says how far it has got.`
	return factory.Parent("rotate", "Replace the intermediate or the root", newIntermediate(f), root)
}

func newIntermediate(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "intermediate",
		Short: "Make a new intermediate, which issues from then on",
		Long: `Make a new intermediate under the current root, which issues from then on. What the one before issued stays good until it
ends: to end it sooner, rotate the root. The control plane does so by itself when a third of the intermediate's life is left.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return do(cmd.Context(), f, "rotate intermediate", func(ctx context.Context, c adminv1.AuthorityServiceClient) (*adminv1.Trust, error) {
				return c.RotateIntermediate(ctx, &adminv1.RotateIntermediateRequest{})
			}, func(*adminv1.Trust) []string {
				return []string{"the new intermediate issues from now on; gateways get to it with their next renewal"}
			})
		},
	}
}

func newPrepare(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "prepare",
		Short: "Make the next root and give it to every gateway",
		Long: `Make the next root and give it to every gateway, in a trust bundle with both. Nothing is issued under it yet. Give the bundle
to whoever else verifies the control plane, too: keyward ca show --bundle.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return do(cmd.Context(), f, "prepare root", func(ctx context.Context, c adminv1.AuthorityServiceClient) (*adminv1.Trust, error) {
				return c.PrepareRoot(ctx, &adminv1.PrepareRootRequest{})
			}, func(t *adminv1.Trust) []string {
				return append(lines(t), "next: keyward ca rotate root activate")
			})
		},
	}
}

func newActivate(f *factory.Factory) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "activate",
		Short: "Issue under the prepared root",
		Long: `Make the prepared root the current one. Certificates of gateways and of the control plane come from it with their next
renewal, and new join tokens carry its pin. It is refused while a connected gateway has not taken over the trust bundle.
Gateways that know only the root before are served all the same until that is retired, because it vouches for the new one's
intermediate.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return do(cmd.Context(), f, "activate root", func(ctx context.Context, c adminv1.AuthorityServiceClient) (*adminv1.Trust, error) {
				return c.ActivateRoot(ctx, &adminv1.ActivateRootRequest{Force: force})
			}, func(t *adminv1.Trust) []string {
				return append(lines(t), "the pin is now "+t.GetPin(), "next, when no good certificates hang on the root before: keyward ca rotate root retire")
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also while connected gateways have not taken over the trust bundle")
	return cmd
}

func newRetire(f *factory.Factory) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "retire",
		Short: "End the trust in the root that was current before",
		Long: `End the trust in the root that was current before: what hangs on it is good for nothing any more. It is refused while a
gateway has a certificate under it that is still good. Gateways whose certificate under it has expired have to join again,
and join tokens that carry it end: the answer says how many.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return do(cmd.Context(), f, "retire root", func(ctx context.Context, c adminv1.AuthorityServiceClient) (*adminv1.Trust, error) {
				return c.RetireRoot(ctx, &adminv1.RetireRootRequest{Force: force})
			}, func(t *adminv1.Trust) []string {
				return append(former(t.GetFormer(), "ended with"), fmt.Sprintf("root %s is retired", render.Short(t.GetFormer().GetId())))
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also while gateways have good certificates under it; they have to join again")
	return cmd
}
