package adminapi

import (
	"context"
	"fmt"

	"keyward.dev/controlplane/internal/configsvc"
)

// Writer is the write path.
type Writer interface {
	Write(ctx context.Context, req configsvc.Request) (configsvc.Result, error)
	Rollback(ctx context.Context, req configsvc.RollbackRequest) (configsvc.RollbackResult, error)
}

// write hands a request to the write path, as the caller's.
func (s *resources) write(ctx context.Context, req configsvc.Request) (configsvc.Result, error) {
	if req.Actor = actor(ctx); req.Actor == "" {
		return configsvc.Result{}, fmt.Errorf("%s: %w", req.Action, errNoIdentity)
	}
	res, err := s.writer.Write(ctx, req)
	if err != nil {
		return res, err
	}
	setRevision(ctx, res.Revision)
	res.Warnings = append(res.Warnings, s.unable(ctx, req.Group, res.Items)...)
	return res, nil
}
