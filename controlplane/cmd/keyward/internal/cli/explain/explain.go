// Package explain is `keyward explain`: the effective policy chain of a route, and what can be written in a kind of
// resource or a policy, read from the descriptors that the control plane itself decodes with.
package explain

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

// Options of one run.
type Options struct {
	Factory *factory.Factory

	// Subject is "route", "policy", "credential" or a kind; Name what follows it.
	Subject, Name string
	Consumer      string
}

// New makes the command; run is nil outside tests.
func New(f *factory.Factory, run func(context.Context, *Options) error) *cobra.Command {
	opts := &Options{Factory: f}
	cmd := &cobra.Command{
		Use:   "explain route NAME | policy TYPE | credential TYPE | KIND",
		Short: "Show a route's policy chain, or what a kind or policy takes",
		Long: `explain route NAME shows the policies that a request to the route meets, in their order, where each is bound, and
why some do not run; with --consumer, for that consumer.

explain policy TYPE, explain credential TYPE and explain KIND show the fields that can be written; without a TYPE, the
types there are.`,
		Example: `  keyward explain route hello --consumer alice
  keyward explain policy rate-limit
  keyward explain services`,
		Args: factory.Args("SUBJECT [NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Subject = args[0]
			if len(args) > 1 {
				opts.Name = args[1]
			}
			if run != nil {
				return run(cmd.Context(), opts)
			}
			return Run(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVar(&opts.Consumer, "consumer", "", "with route: for this consumer")
	return cmd
}

// Run explains.
func Run(ctx context.Context, o *Options) error {
	switch {
	case o.Subject == "route" && o.Name != "":
		return o.route(ctx)
	case o.Consumer != "":
		return failure.Usagef("--consumer goes with route NAME")
	case o.Subject == "policy" || o.Subject == "policies":
		return o.policy()
	case o.Subject == "credential" && o.Name != "":
		return o.credential()
	case o.Name != "":
		return failure.Usagef("only routes are explained by name; keyward get shows a resource")
	default:
		return o.kind()
	}
}

func (o *Options) route(ctx context.Context) error {
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).ExplainRoute(ctx, &adminv1.ExplainRouteRequest{
		Group: o.Factory.Group(), Route: o.Name, Consumer: o.Consumer,
	})
	if err != nil {
		return fmt.Errorf("explain route %s: %w", o.Name, err)
	}
	return o.Factory.Print(res, func() error {
		who := "a caller who is no consumer"
		if o.Consumer != "" {
			who = "consumer " + o.Consumer
		}
		line := fmt.Sprintf("route %s, to service %s, for %s", res.GetRoute(), res.GetService(), who)
		if res.GetFallthrough() {
			line += "; what does not fit falls through to other paths"
		}
		if _, err := fmt.Fprintln(o.Factory.IO.Out, line); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if len(res.GetChain()) == 0 {
			o.Factory.IO.Say("no policies")
		}
		return chain.Print(o.Factory.IO, res.GetChain())
	})
}

func (o *Options) policy() error {
	c, err := o.Factory.Catalog()
	if err != nil {
		return err
	}
	if o.Name == "" {
		return o.policies()
	}
	p, ok := c.Policy(o.Name)
	if !ok {
		var known []string
		for _, p := range c.Policies() {
			known = append(known, p.Type)
		}
		return &failure.Error{Code: failure.NotFound, Err: fmt.Errorf("there is no policy %q; there are %s", o.Name, strings.Join(known, ", "))}
	}
	w, err := o.writer()
	if err != nil {
		return err
	}
	w.line("policy %s", p.Type)
	w.line("  phase: %s", word(p.Phase, "PHASE_"))
	w.line("  on several levels: %s", combination(p.Combine))
	var sites []string
	for _, s := range p.BindableOn {
		sites = append(sites, word(s, "SITE_"))
	}
	w.line("  bindable on: %s", strings.Join(sites, ", "))
	w.fields(p.Config.Descriptor())
	return w.err
}

func (o *Options) credential() error {
	c, err := o.Factory.Catalog()
	if err != nil {
		return err
	}
	t, ok := c.Credential(o.Name)
	if !ok {
		var known []string
		for _, t := range c.Credentials() {
			known = append(known, t.Type)
		}
		return &failure.Error{Code: failure.NotFound, Err: fmt.Errorf("there is no credential type %q; there are %s", o.Name, strings.Join(known, ", "))}
	}
	w, err := o.writer()
	if err != nil {
		return err
	}
	w.line("credential type %s", t.Type)
	w.fields(t.Config.Descriptor())
	return w.err
}

func (o *Options) kind() error {
	k, err := o.Factory.Kind(o.Subject)
	if err != nil {
		return err
	}
	w, err := o.writer()
	if err != nil {
		return err
	}
	w.line("%s", k.Name)
	if k.Parent != "" {
		w.line("  belong to: %s", k.Parent)
	}
	if k.Singleton {
		w.line("  one in each group")
	}
	w.fields(k.Type.Descriptor())
	return w.err
}
