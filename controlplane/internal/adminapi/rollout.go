package adminapi

import (
	"context"
	"fmt"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/internal/rollout"
)

// Rollouts shows and steers roll-outs; *rollout.Desk does.
type Rollouts interface {
	Status(ctx context.Context, group string) (rollout.Status, error)
	Steer(ctx context.Context, group string, a rollout.Action, actor, reason string) (rollout.Status, error)
}

// rollouts serves RolloutService.
type rollouts struct {
	adminv1.UnimplementedRolloutServiceServer
	desk Rollouts
	sets Sets
}

// GetRollout answers where the newest change has got to.
func (s *rollouts) GetRollout(ctx context.Context, req *adminv1.GetRolloutRequest) (*adminv1.RolloutStatus, error) {
	g, err := s.sets.Group(ctx, req.GetGroup())
	if err != nil {
		return nil, failure(err)
	}
	status, err := s.desk.Status(ctx, req.GetGroup())
	if err != nil {
		return nil, failure(err)
	}
	if status.State == nil {
		return &adminv1.RolloutStatus{Group: req.GetGroup(), State: "unstaged", Revision: g.View().Revision}, nil
	}
	return rolloutOf(req.GetGroup(), status), nil
}

// SteerRollout pauses, resumes, aborts or completes a roll-out.
func (s *rollouts) SteerRollout(ctx context.Context, req *adminv1.SteerRolloutRequest) (*adminv1.RolloutStatus, error) {
	who := actor(ctx)
	if who == "" {
		return nil, failure(fmt.Errorf("steer roll-out: %w", errNoIdentity))
	}
	if len(req.GetReason()) > maxText {
		return nil, failure(violation("reason", "must have at most 1024 bytes"))
	}
	status, err := s.desk.Steer(ctx, req.GetGroup(), rollout.Action(req.GetAction()), who, req.GetReason())
	if err != nil {
		return nil, failure(err)
	}
	return rolloutOf(req.GetGroup(), status), nil
}

func rolloutOf(group string, status rollout.Status) *adminv1.RolloutStatus {
	s := status.State
	out := &adminv1.RolloutStatus{
		Group: group, State: string(s.Phase), Revision: s.Revision, Stage: count(s.Stage() + 1), Since: timestamp(s.Since),
		Reason: s.Reason, Actor: s.Actor, Waiting: status.Waiting,
	}
	if s.Plan.GetFrozen() && s.Phase != rollout.Paused {
		out.State = "frozen"
	}
	for i, target := range s.Targets {
		at := status.Stages[i]
		stage := &adminv1.RolloutStageStatus{
			Members: s.Members(i), Target: target,
			Connected: count(at.Connected), Applied: count(at.Applied), Rejecting: count(at.Rejecting),
		}
		if stages := s.Plan.GetStages(); i < len(stages) {
			stage.Soak = stages[i].GetSoak()
		}
		out.Stages = append(out.Stages, stage)
	}
	return out
}
