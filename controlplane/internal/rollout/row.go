package rollout

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/store"
)

// Vault authenticates the rows of a group; *sealer.Group does.
type Vault interface {
	MACRollout(r store.Rollout) []byte
	VerifyRollout(r store.Rollout) error
}

// Row is the state as it is stored.
func (s *State) Row(v Vault) (store.Rollout, error) {
	plan, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.Plan)
	if err != nil {
		return store.Rollout{}, fmt.Errorf("marshal roll-out: %w", err)
	}
	r := store.Rollout{
		Epoch: s.Epoch, Revision: s.Revision, Version: s.Version, Plan: plan, Targets: s.Targets,
		Since: s.Since.UTC().Truncate(time.Microsecond), Phase: string(s.Phase),
		Reason: store.Printable(s.Reason), Actor: store.Printable(s.Actor),
	}
	r.MAC = v.MACRollout(r)
	return r, nil
}

// FromRow answers the state that was stored.
func FromRow(r store.Rollout, v Vault) (*State, error) {
	if err := v.VerifyRollout(r); err != nil {
		return nil, err
	}
	plan := &configv1.Rollout{}
	if err := proto.Unmarshal(r.Plan, plan); err != nil || len(r.Targets) != len(plan.GetStages())+1 {
		return nil, fmt.Errorf("read roll-out of group %s: its plan does not fit its targets", r.Group)
	}
	return &State{
		Epoch: r.Epoch, Revision: r.Revision, Version: r.Version, Plan: plan, Targets: r.Targets, Since: r.Since,
		Phase: Phase(r.Phase), Reason: r.Reason, Actor: r.Actor,
	}, nil
}
