package adminapi

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
)

// GetRevision answers one committed revision with what it changed.
func (s *resources) GetRevision(ctx context.Context, req *adminv1.GetRevisionRequest) (*adminv1.GetRevisionResponse, error) {
	revision := req.GetRevision()
	if revision < 1 {
		return nil, failure(violation("revision", "say which revision; the first is 1"))
	}
	sets, err := s.past.At(ctx, req.GetGroup(), revision-1, revision)
	if err != nil {
		return nil, failure(err)
	}
	set := sets[1]
	out := &adminv1.GetRevisionResponse{Revision: &adminv1.Revision{
		Revision: set.Revision, At: timestamppb.New(set.At), Actor: set.Actor, Summary: set.Summary,
	}}
	out.Changes, out.Warnings, err = between(sets[0], set)
	if err != nil {
		return nil, failure(err)
	}
	return out, nil
}

// DiffRevisions answers what changed from one revision to another.
func (s *resources) DiffRevisions(ctx context.Context, req *adminv1.DiffRevisionsRequest) (*adminv1.DiffRevisionsResponse, error) {
	from, to := req.GetFrom(), req.GetTo()
	switch {
	case from < 1:
		return nil, failure(violation("from", "say from which revision; the first is 1"))
	case to < 0:
		return nil, failure(violation("to", "must not be negative; 0 is the newest revision"))
	case to == 0:
		to = history.Newest
	}
	sets, err := s.past.At(ctx, req.GetGroup(), from, to)
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.DiffRevisionsResponse{Group: req.GetGroup(), From: from, To: sets[1].Revision}
	out.Changes, out.Warnings, err = between(sets[0], sets[1])
	if err != nil {
		return nil, failure(err)
	}
	return out, nil
}

// between renders how two sets differ, secrets hidden.
func between(before, after *history.Set) ([]*adminv1.ResourceChange, []*adminv1.Notice, error) {
	differences, err := history.Diff(before, after)
	if err != nil {
		return nil, nil, err
	}
	items := make([]configsvc.Item, 0, len(differences))
	for _, d := range differences {
		items = append(items, configsvc.Item{Action: actionOf(d), Kind: d.Kind, Name: d.Name, Before: d.Before, After: d.After})
	}
	return listed(items, true)
}

func actionOf(d history.Difference) string {
	switch {
	case d.Before == nil:
		return "create"
	case d.After == nil:
		return "delete"
	default:
		return "update"
	}
}

// Rollback makes the resources of a group what they were at a revision.
func (s *resources) Rollback(ctx context.Context, req *adminv1.RollbackRequest) (*adminv1.RollbackResponse, error) {
	who := actor(ctx)
	if who == "" {
		return nil, failure(fmt.Errorf("roll back: %w", errNoIdentity))
	}
	if req.GetIfRevision() < 0 {
		return nil, failure(violation("if_revision", "must not be negative; 0 is wherever the group is"))
	}
	res, err := s.writer.Rollback(ctx, configsvc.RollbackRequest{
		Actor: who, Group: req.GetGroup(), To: req.GetTo(), IfRevision: req.GetIfRevision(),
		Credentials: req.GetIncludeCredentials(), DryRun: req.GetDryRun(),
	})
	if err != nil {
		return nil, failure(err)
	}
	setRevision(ctx, res.Revision)
	out := &adminv1.RollbackResponse{
		Group: req.GetGroup(), To: req.GetTo(), Revision: res.Revision, Changed: res.Changed,
		Unchanged: int64(res.Unchanged), CredentialsLeft: int64(res.CredentialsLeft),
	}
	out.Warnings = notices(append(res.Warnings, s.unable(ctx, req.GetGroup(), res.Items)...))
	var rest []*adminv1.Notice
	if out.Changes, rest, err = listed(res.Items, req.GetDryRun()); err != nil {
		return nil, failure(err)
	}
	out.Warnings = append(out.Warnings, rest...)
	return out, nil
}
