package adminapi

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/store"
)

// AuditLog reads the audit chains; `system` is the name of the one that belongs to no group.
type AuditLog interface {
	// AuditPage answers rows before a number, newest first (0: from the newest).
	AuditPage(ctx context.Context, group string, before int64, limit int) ([]store.AuditRow, error)
	VerifyAudit(ctx context.Context, group string) (audit.Report, error)
}

// auditLog serves AuditService.
type auditLog struct {
	adminv1.UnimplementedAuditServiceServer
	log AuditLog
}

// ListAuditEvents answers events, newest first.
func (s *auditLog) ListAuditEvents(ctx context.Context, req *adminv1.ListAuditEventsRequest) (*adminv1.ListAuditEventsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, failure(err)
	}
	list := "audit\x01" + req.GetGroup()
	before, err := afterNumber(list, req.GetPageToken())
	if err != nil {
		return nil, failure(err)
	}
	rows, err := s.log.AuditPage(ctx, req.GetGroup(), before, size+1)
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.ListAuditEventsResponse{}
	if len(rows) > size {
		rows = rows[:size]
		out.NextPageToken = pageToken(list, strconv.FormatInt(rows[size-1].Seq, 10))
	}
	for _, r := range rows {
		out.Events = append(out.Events, &adminv1.AuditEvent{
			Seq: r.Seq, At: timestamppb.New(r.At), Actor: r.Actor, Action: r.Action, Subjects: r.Subjects,
			Revision: r.Revision, Detail: r.Detail,
		})
	}
	return out, nil
}

// VerifyAudit walks the chain.
func (s *auditLog) VerifyAudit(ctx context.Context, req *adminv1.VerifyAuditRequest) (*adminv1.VerifyAuditResponse, error) {
	report, err := s.log.VerifyAudit(ctx, req.GetGroup())
	if err != nil {
		return nil, failure(err)
	}
	return renderReport(report), nil
}

func renderReport(r audit.Report) *adminv1.VerifyAuditResponse {
	return &adminv1.VerifyAuditResponse{Intact: r.Intact, Events: r.Events, Fault: r.Fault, FaultSeq: r.FaultSeq}
}
