package credential

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// pageSize is the most the control plane gives at once.
const pageSize = 1000

func newList(f *factory.Factory) *cobra.Command {
	var unused, selector string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the credentials of all consumers, and when they were used last",
		Long: `List the credentials of all consumers of the group, and when they were used last. With --unused-for only those that have
been there for that long and that nobody is known to have used in that time. Gateways report about once an hour; those that
are offline have not said yet what they know.`,
		Example: `  keyward credential list
  keyward credential list --unused-for 90d`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), f, unused, selector) },
	}
	cmd.Flags().StringVar(&unused, "unused-for", "", "only those that nobody has used for this time, e.g. 90d or 48h")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "labels, e.g. key=value,other!=value,present")
	return cmd
}

func list(ctx context.Context, f *factory.Factory, unused, selector string) error {
	period, err := factory.Period("unused-for", unused)
	if err != nil {
		return err
	}
	if period != nil && period.AsDuration() <= 0 {
		return failure.Usagef("--unused-for %s: give more than nothing", unused)
	}
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	all, since, err := pages(ctx, adminv1.NewResourceServiceClient(conn), &adminv1.ListGroupCredentialsRequest{
		Group: f.Group(), PageSize: pageSize, Selector: selector, UnusedFor: period,
	})
	if err != nil {
		return fmt.Errorf("list credentials: %w", err)
	}
	if period != nil && since.Add(period.AsDuration()).After(f.Now()) {
		f.IO.Say("uses in group %s are recorded since %s: which credentials nobody has used for %s cannot be told before %s",
			f.Group(), stamp(since), unused, stamp(since.Add(period.AsDuration())))
	}
	return f.PrintList(all, func() error {
		switch {
		case len(all) == 0 && period != nil:
			f.IO.Say("no credentials in group %s that are known to be unused for %s", f.Group(), unused)
			return nil
		case len(all) == 0:
			f.IO.Say("no credentials in group %s", f.Group())
			return nil
		}
		return table(f, all)
	})
}

func stamp(t time.Time) string { return t.UTC().Format(time.DateTime) + "Z" }

// pages collects all pages, and since when uses are recorded.
func pages(ctx context.Context, c adminv1.ResourceServiceClient, req *adminv1.ListGroupCredentialsRequest) (all []proto.Message, since time.Time, err error) {
	for {
		res, err := c.ListGroupCredentials(ctx, req)
		if err != nil {
			return nil, since, err
		}
		since = res.GetRecordedSince().AsTime()
		for _, r := range res.GetResources() {
			m := &configv1.Credential{}
			if err := r.UnmarshalTo(m); err != nil {
				return nil, since, fmt.Errorf("read: %w", err)
			}
			all = append(all, m)
		}
		if req.PageToken = res.GetNextPageToken(); req.GetPageToken() == "" {
			return all, since, nil
		}
	}
}

func table(f *factory.Factory, all []proto.Message) error {
	g := render.NewGrid(f.IO, "NAME", "TYPE", "EXPIRES", "CREATED", "LAST USED")
	for _, m := range all {
		if c, ok := m.(*configv1.Credential); ok {
			g.Add(c.GetConsumer()+"/"+c.GetName(), c.GetType(), render.Time(c.GetExpires()), render.Time(c.GetCreatedAt()), render.Time(c.GetLastUsed()))
		}
	}
	return g.Print()
}
