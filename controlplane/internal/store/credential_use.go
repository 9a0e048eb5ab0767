package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// CredentialUse says that a credential was used.
type CredentialUse struct {
	// Group is whose gateways said so; they count for no other group's credentials.
	Group string
	UID   string
	At    time.Time
}

// UseGrain is how much later a use must be than the one that is stored to be written: several gateways tell of the same
// credential.
const UseGrain = 5 * time.Minute

const (
	// upsertUses waits for nobody but another replica that tells first of the same credentials, in the order of uids: a change
	// that deletes credentials may hold their rows, and wait for one that this statement holds.
	upsertUses = `
with said as (
    select g.uid as group_uid, s.uid, s.at
    from unnest($1::text[], $2::text[], $3::timestamptz[]) as s (group_name, uid, at)
    join groups g on g.name = s.group_name
), known as (
    select u.uid, s.at
    from said s
    join resources r on r.uid = s.uid and r.group_uid = s.group_uid
    join credential_uses u on u.uid = r.uid
    where u.used_at < s.at - $4::interval
    for update of u skip locked
), moved as (
    update credential_uses u set used_at = k.at from known k where u.uid = k.uid
), unknown as (
    select r.uid, s.at
    from said s
    join resources r on r.uid = s.uid and r.group_uid = s.group_uid and r.kind = 'credentials'
    where not exists (select from credential_uses u where u.uid = r.uid)
    for key share of r skip locked
)
insert into credential_uses (uid, used_at)
select uid, at from unknown order by uid
on conflict on constraint credential_uses_pkey do nothing`
	selectUses     = `select uid, used_at from credential_uses where uid = any ($1)`
	selectUseSince = `select uid, uses_since from groups where name = $1`
	// A credential that nobody used is as old as what is known of it. The group is given by its uid, so that a page costs what it
	// shows, by the index on names.
	selectUsage = `
select r.name, r.uid, u.used_at
from resources r
left join credential_uses u on u.uid = r.uid
where r.group_uid = $1 and r.kind = 'credentials' and r.name > $2
    and ($3::timestamptz is null or greatest(u.used_at, r.created_at, $4) < $3)
order by r.name
limit $5`
)

// SaveCredentialUses notes uses, in one statement. Those of credentials that are not there, or not in that group, are left out,
// and those that say little more than what is known.
func (s *Store) SaveCredentialUses(ctx context.Context, uses []CredentialUse) error {
	groups, uids, at := make([]string, len(uses)), make([]string, len(uses)), make([]time.Time, len(uses))
	for i, u := range uses {
		groups[i], uids[i], at[i] = u.Group, u.UID, u.At
	}
	_, err := s.pool.Exec(ctx, upsertUses, groups, uids, at, UseGrain)
	return mapped("save uses of credentials", err)
}

// LastUsed answers when the credentials were used last; those of which no use is known are left out.
func (s *Store) LastUsed(ctx context.Context, uids []string) (map[string]time.Time, error) {
	rows, err := s.pool.Query(ctx, selectUses, uids)
	if err != nil {
		return nil, mapped("read uses of credentials", err)
	}
	used := make(map[string]time.Time, len(uids))
	var uid string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&uid, &at}, func() error {
		used[uid] = at
		return nil
	})
	return used, mapped("read uses of credentials", err)
}

// UsageQuery asks for credentials of a group.
type UsageQuery struct {
	Group string
	// After is the name after which the answer begins.
	After string
	Limit int
	// UnusedSince leaves out those that were used then or later, or may have been; zero: none.
	UnusedSince time.Time
}

// Usage is a credential and when it was used.
type Usage struct {
	// Name is "consumer/name".
	Name string
	UID  string
	// Used is zero if no use is known.
	Used time.Time
}

// CredentialUsage answers credentials of a group in the order of their names, and since when uses are recorded.
func (s *Store) CredentialUsage(ctx context.Context, q UsageQuery) (found []Usage, since time.Time, err error) {
	var group string
	if err := s.pool.QueryRow(ctx, selectUseSince, q.Group).Scan(&group, &since); err != nil {
		return nil, since, mapped("read since when uses are recorded", err)
	}
	var before *time.Time
	if !q.UnusedSince.IsZero() {
		before = &q.UnusedSince
	}
	rows, err := s.pool.Query(ctx, selectUsage, group, q.After, before, since, q.Limit)
	if err != nil {
		return nil, since, mapped("list uses of credentials", err)
	}
	found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Usage, error) {
		var u Usage
		var at *time.Time
		err := row.Scan(&u.Name, &u.UID, &at)
		if at != nil {
			u.Used = *at
		}
		return u, err
	})
	return found, since, mapped("list uses of credentials", err)
}
