// Package route is `keyward route`: what would happen to a request.
package route

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/chain"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	return factory.Parent("route", "Try the routing", newTest(f, nil))
}

// TestOptions of one run of `keyward route test`.
type TestOptions struct {
	Factory *factory.Factory

	Method, URL string
	As          string
	Headers     []string
}

func newTest(f *factory.Factory, run func(context.Context, *TestOptions) error) *cobra.Command {
	opts := &TestOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "test METHOD URL",
		Short: "Show which route takes a request, and the policies it meets",
		Long: `Show which route takes a request, why, and the policies it meets there. No request is made: the control plane
answers from the configuration. Exits with 1 if no route takes it.`,
		Example: `  keyward route test GET http://hello.test/greet --as alice
  keyward route test POST https://api.test/v1 --header 'X-Version: 2'`,
		Args: factory.Args("METHOD URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Method, opts.URL = strings.ToUpper(args[0]), args[1]
			for _, h := range opts.Headers {
				if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" {
					return failure.Usagef("--header %q: write 'Name: value'", h)
				}
			}
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Test(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVar(&opts.As, "as", "", "consumer who calls")
	cmd.Flags().StringArrayVarP(&opts.Headers, "header", "H", nil, "'Name: value'; may be repeated")
	return cmd
}

// Test asks and prints.
func Test(ctx context.Context, o *TestOptions) error {
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).TestRoute(ctx, &adminv1.TestRouteRequest{
		Group: o.Factory.Group(), Method: o.Method, Url: o.URL, Headers: o.Headers, Consumer: o.As,
	})
	if err != nil {
		return fmt.Errorf("test %s %s: %w", o.Method, o.URL, err)
	}
	if err := o.Factory.Print(res, func() error { return o.print(res) }); err != nil {
		return err
	}
	if res.GetRoute() == "" {
		return failure.Exit(failure.Failed)
	}
	return nil
}

func (o *TestOptions) print(res *adminv1.TestRouteResponse) error {
	var b strings.Builder
	switch {
	case res.GetRoute() == "":
		fmt.Fprintf(&b, "no route takes it: %d\n", res.GetStatus())
	case res.GetStatus() != 0:
		fmt.Fprintf(&b, "route %s answers %d\n", res.GetRoute(), res.GetStatus())
	default:
		fmt.Fprintf(&b, "route %s, to service %s\n", res.GetRoute(), res.GetService())
	}
	for _, r := range res.GetReasons() {
		fmt.Fprintf(&b, "  %s\n", r)
	}
	if _, err := fmt.Fprint(o.Factory.IO.Out, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return chain.Print(o.Factory.IO, res.GetChain())
}
