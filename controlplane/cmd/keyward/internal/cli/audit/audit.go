// Package audit is `keyward audit`: who did what, and whether the record of it is whole.
package audit

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	return factory.Parent("audit", "Show and verify the audit chain", newList(f), newVerify(f))
}

func newList(f *factory.Factory) *cobra.Command {
	var limit int32
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List audit events, newest first",
		Long:  "List audit events, newest first. The chain of the installation itself is -g system.",
		Args:  factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return failure.Usagef("--limit must be at least 1")
			}
			return list(cmd.Context(), f, limit)
		},
	}
	cmd.Flags().Int32Var(&limit, "limit", 50, "at most this many")
	return cmd
}

func list(ctx context.Context, f *factory.Factory, limit int32) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	c := adminv1.NewAuditServiceClient(conn)
	var all []*adminv1.AuditEvent
	for page := ""; ; {
		res, err := c.ListAuditEvents(ctx, &adminv1.ListAuditEventsRequest{
			Group: f.Group(), PageSize: limit - int32(len(all)), PageToken: page,
		})
		if err != nil {
			return fmt.Errorf("list audit events: %w", err)
		}
		all = append(all, res.GetEvents()...)
		page = res.GetNextPageToken()
		if page == "" || int32(len(all)) >= limit {
			break
		}
	}
	return f.PrintList(render.Messages(all), func() error {
		g := render.NewGrid(f.IO, "SEQ", "AT", "BY", "ACTION", "REVISION", "SUBJECTS", "DETAIL")
		for _, e := range all {
			g.Add(strconv.FormatInt(e.GetSeq(), 10), render.Time(e.GetAt()), render.Or(e.GetActor(), "-"), e.GetAction(),
				revision(e.GetRevision()), subjects(e.GetSubjects()), e.GetDetail())
		}
		return g.Print()
	})
}

func revision(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func subjects(all []string) string {
	const enough = 3
	if len(all) > enough {
		return strings.Join(all[:enough], ",") + ",+" + strconv.Itoa(len(all)-enough)
	}
	return render.Or(strings.Join(all, ","), "-")
}

func newVerify(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that no audit event was altered, removed or cut off",
		Long: `Let the control plane walk the audit chain of a gateway group (-g system: of the installation) and check that
no event was altered, removed or cut off. Exits with 1, naming the place, if one was.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return verify(cmd.Context(), f) },
	}
}

func verify(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewAuditServiceClient(conn).VerifyAudit(ctx, &adminv1.VerifyAuditRequest{Group: f.Group()})
	if err != nil {
		return fmt.Errorf("verify audit chain: %w", err)
	}
	err = f.Print(res, func() error {
		if res.GetIntact() {
			_, err := fmt.Fprintf(f.IO.Out, "the audit chain of %s is intact: %d events\n", f.Group(), res.GetEvents())
			return err
		}
		return nil
	})
	if err != nil || res.GetIntact() {
		return err
	}
	return fmt.Errorf("the audit chain of %s is broken at event %d: %s", f.Group(), res.GetFaultSeq(), res.GetFault())
}
