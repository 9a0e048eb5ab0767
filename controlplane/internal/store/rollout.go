package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rollout is how far the stages of a group may go. All of it but Group and Head is covered by MAC.
type Rollout struct {
	GroupUID string
	Group    string
	Epoch    uint64
	// Revision is the group's newest when the row was written, Head the one it has now. Every change of a group that has a
	// row writes it, so that they are equal, unless somebody put an older row back.
	Revision, Head int64
	// Version grows with every change of the row that comes with no revision.
	Version int64
	// Plan is a config.v1.Rollout.
	Plan          []byte
	Targets       []int64
	Since         time.Time
	Phase         string
	Reason, Actor string
	MAC           []byte
}

const (
	rolloutColumns = `
select r.group_uid, g.name, r.epoch, r.revision, h.revision, r.version, r.plan, r.targets, r.since, r.phase, r.reason,
       r.actor, r.mac
from rollouts r join groups g on g.uid = r.group_uid join heads h on h.group_uid = r.group_uid
where `
	selectRollout     = rolloutColumns + `g.name = $1`
	selectRolloutByID = rolloutColumns + `r.group_uid = $1`
	selectPhases      = `select g.name, r.phase from rollouts r join groups g on g.uid = r.group_uid`
	upsertRollout     = `
insert into rollouts (group_uid, epoch, revision, version, plan, targets, since, phase, reason, actor, mac)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict on constraint rollouts_pkey do update set
    epoch = excluded.epoch, revision = excluded.revision, version = excluded.version, plan = excluded.plan,
    targets = excluded.targets, since = excluded.since, phase = excluded.phase, reason = excluded.reason,
    actor = excluded.actor, mac = excluded.mac`
	deleteRollout = `delete from rollouts where group_uid = $1`
)

// Rollout answers the row of a group; ErrNotFound if nothing holds its changes back.
func (s *Store) Rollout(ctx context.Context, group string) (Rollout, error) {
	return readRollout(ctx, s.pool, selectRollout, group)
}

// RolloutPhases answers the phase of every group that has a row.
func (s *Store) RolloutPhases(ctx context.Context) (map[string]string, error) {
	rows, err := s.pool.Query(ctx, selectPhases)
	if err != nil {
		return nil, mapped("list roll-outs", err)
	}
	phases := map[string]string{}
	var group, phase string
	_, err = pgx.ForEachRow(rows, []any{&group, &phase}, func() error {
		phases[group] = phase
		return nil
	})
	return phases, mapped("list roll-outs", err)
}

// Rollout answers the row of the group; ErrNotFound if it has none.
func (t *GroupTx) Rollout(ctx context.Context) (Rollout, error) {
	return readRollout(ctx, t.tx, selectRolloutByID, t.head.GroupUID)
}

// SetRollout writes the row of the group, whose MAC the caller has made.
func (t *GroupTx) SetRollout(ctx context.Context, r Rollout) error {
	_, err := t.tx.Exec(ctx, upsertRollout, t.head.GroupUID, r.Epoch, r.Revision, r.Version, r.Plan, r.Targets, r.Since,
		r.Phase, r.Reason, r.Actor, r.MAC)
	if err != nil {
		return mapped("write roll-out", err)
	}
	t.Wake(TopicRollouts)
	return nil
}

// DeleteRollout removes the row of the group, if it has one.
func (t *GroupTx) DeleteRollout(ctx context.Context) error {
	if _, err := t.tx.Exec(ctx, deleteRollout, t.head.GroupUID); err != nil {
		return mapped("delete roll-out", err)
	}
	t.Wake(TopicRollouts)
	return nil
}

func readRollout(ctx context.Context, q querier, query, key string) (Rollout, error) {
	var r Rollout
	err := q.QueryRow(ctx, query, key).Scan(&r.GroupUID, &r.Group, &r.Epoch, &r.Revision, &r.Head, &r.Version, &r.Plan,
		&r.Targets, &r.Since, &r.Phase, &r.Reason, &r.Actor, &r.MAC)
	return r, mapped("read roll-out", err)
}
