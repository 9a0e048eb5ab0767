package adminapi

import (
	"context"
	"fmt"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
)

// Writer is the write path.
type Writer interface {
	Write(ctx context.Context, req configsvc.Request) (configsvc.Result, error)
}

func (s *resources) write(ctx context.Context, group, action string, dryRun, prune bool, changes ...admission.Change) (configsvc.Result, error) {
	who := actor(ctx)
	if who == "" {
		return configsvc.Result{}, fmt.Errorf("%s: %w", action, errNoIdentity)
	}
	res, err := s.writer.Write(ctx, configsvc.Request{
		Actor: who, Action: action, Group: group, Changes: changes, Prune: prune, DryRun: dryRun,
	})
	if err == nil {
		setRevision(ctx, res.Revision)
	}
	return res, err
}
