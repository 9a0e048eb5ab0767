package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// AcmeAccount is an account of a group with an ACME authority.
type AcmeAccount struct {
	ID        string
	Sealed    []byte
	UpdatedAt time.Time
}

const (
	selectAcmeAccounts = `
select a.id, a.sealed, a.updated_at from acme_accounts a join groups g on g.uid = a.group_uid
where g.name = $1 order by a.id`
	upsertAcmeAccount = `
insert into acme_accounts (group_uid, id, sealed, created_at, updated_at) values ($1, $2, $3, $4, $4)
on conflict on constraint acme_accounts_pkey do update set sealed = excluded.sealed, updated_at = excluded.updated_at`
	deleteAcmeAccount = `delete from acme_accounts where group_uid = $1 and id = $2`
	// selectGroupsHolding looks one up for each group and kind. Order and limit keep the planner from reading all resources instead.
	selectGroupsHolding = `
select g.name from groups g
where exists (select from unnest($1::text[]) as k (kind),
              lateral (select from resources r where r.group_uid = g.uid and r.kind = k.kind order by r.name limit 1) as r)
   or exists (select from acme_accounts a where a.group_uid = g.uid)
order by g.name`
	tryLock = `select pg_try_advisory_lock(hashtextextended('keyward/' || $1, 0))`
	unlock  = `select pg_advisory_unlock(hashtextextended('keyward/' || $1, 0))`
)

// AcmeAccounts answers the accounts of a group.
func (s *Store) AcmeAccounts(ctx context.Context, group string) ([]AcmeAccount, error) {
	rows, err := s.pool.Query(ctx, selectAcmeAccounts, group)
	if err != nil {
		return nil, mapped("read ACME accounts", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (AcmeAccount, error) {
		var a AcmeAccount
		err := row.Scan(&a.ID, &a.Sealed, &a.UpdatedAt)
		return a, err
	})
	return list, mapped("read ACME accounts", err)
}

// PutAcmeAccount creates or replaces an account of the group.
func (t *GroupTx) PutAcmeAccount(ctx context.Context, a AcmeAccount) error {
	_, err := t.tx.Exec(ctx, upsertAcmeAccount, t.head.GroupUID, a.ID, a.Sealed, a.UpdatedAt)
	return mapped("write ACME account", err)
}

// DeleteAcmeAccount removes an account of the group.
func (t *GroupTx) DeleteAcmeAccount(ctx context.Context, id string) error {
	_, err := t.tx.Exec(ctx, deleteAcmeAccount, t.head.GroupUID, id)
	return mapped("delete ACME account", err)
}

// GroupsHolding answers the groups that have a resource of one of the kinds, or an ACME account.
func (s *Store) GroupsHolding(ctx context.Context, kinds []string) ([]string, error) {
	rows, err := s.pool.Query(ctx, selectGroupsHolding, kinds)
	if err != nil {
		return nil, mapped("look for groups by kinds", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, mapped("look for groups by kinds", err)
}

// TryLock takes the lock of a name for this process, among all replicas, until release is called; the database gives it up when
// the process dies. It is not ok if somebody has it. It occupies a connection.
func (s *Store) TryLock(ctx context.Context, name string) (release func(), ok bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, false, mapped("take lock", err)
	}
	if err := conn.QueryRow(ctx, tryLock, name).Scan(&ok); err != nil || !ok {
		conn.Release()
		return nil, false, mapped("take lock", err)
	}
	return func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), beginTimeout)
		defer cancel()
		if _, err := conn.Exec(bounded, unlock, name); err != nil {
			_ = conn.Conn().Close(bounded) // with the connection the lock goes
		}
		conn.Release()
	}, true, nil
}
