package diff

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/difference"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Range are two revisions to compare; To 0 is the newest.
type Range struct{ From, To int64 }

// parse reads REV..REV and REV.. .
func parse(arg string) (*Range, error) {
	from, to, ok := strings.Cut(arg, "..")
	r := &Range{}
	var err error
	if r.From, err = strconv.ParseInt(from, 10, 64); !ok || err != nil || r.From < 1 {
		return nil, badRange(arg)
	}
	if to == "" {
		return r, nil
	}
	if r.To, err = strconv.ParseInt(to, 10, 64); err != nil || r.To < 1 {
		return nil, badRange(arg)
	}
	return r, nil
}

func badRange(arg string) error {
	return failure.Usagef("%q are no revisions; write 41..43, or 41.. for up to the newest", arg)
}

// revisions compares two revisions and prints.
func (o *Options) revisions(ctx context.Context) error {
	conn, err := o.Factory.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).DiffRevisions(ctx, &adminv1.DiffRevisionsRequest{
		Group: o.Factory.Group(), From: o.Between.From, To: o.Between.To,
	})
	if err != nil {
		return failure.DefaultHint(fmt.Errorf("compare revisions: %w", err), "keyward revisions lists those there are")
	}
	difference.Warn(o.Factory.IO, res.GetWarnings())
	if err := o.Factory.Print(res, func() error { return difference.Print(o.Factory, res.GetChanges()) }); err != nil {
		return err
	}
	return o.exit(len(res.GetChanges()))
}
