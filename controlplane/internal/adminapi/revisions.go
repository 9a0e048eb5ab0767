package adminapi

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
)

// ListRevisions answers committed revisions, newest first.
func (s *resources) ListRevisions(ctx context.Context, req *adminv1.ListRevisionsRequest) (*adminv1.ListRevisionsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, failure(err)
	}
	list := "revisions\x01" + req.GetGroup()
	before, err := afterNumber(list, req.GetPageToken())
	if err != nil {
		return nil, failure(err)
	}
	changes, err := s.history.History(ctx, req.GetGroup(), before, size+1)
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.ListRevisionsResponse{}
	if len(changes) > size {
		changes = changes[:size]
		out.NextPageToken = pageToken(list, strconv.FormatInt(changes[size-1].Revision, 10))
	}
	for _, c := range changes {
		out.Revisions = append(out.Revisions, &adminv1.Revision{
			Revision: c.Revision, At: timestamppb.New(c.At), Actor: c.Actor, Summary: c.Summary,
		})
	}
	return out, nil
}
