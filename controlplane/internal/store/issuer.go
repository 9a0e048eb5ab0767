package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bearer is a gateway with a certificate.
type Bearer struct {
	Group, ID string
	// NotAfter is when its newest certificate ends, or ended.
	NotAfter time.Time
}

const (
	selectBearers = `
select g.name, w.id, w.not_after
from gateways w join groups g on g.uid = w.group_uid
where w.revoked_at is null and w.not_after > $2 and w.issuer <> all($1)
order by w.not_after desc, w.id`
	countTokensOfRoot = `
select count(*) from join_tokens
where deleted_at is null and expires_at > $2 and used < uses and root_spki in ($1, '')`
)

// BearersOfOthers lists the gateways that are not revoked and have a certificate of none of these issuers, which ends after the
// given time. One that was issued before issuers were noted is among them.
func (s *Store) BearersOfOthers(ctx context.Context, issuers []string, after time.Time) ([]Bearer, error) {
	if issuers == nil {
		issuers = []string{} // null differs from everything
	}
	rows, err := s.pool.Query(ctx, selectBearers, issuers, after)
	if err != nil {
		return nil, mapped("list certificates of other issuers", err)
	}
	bearers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Bearer])
	return bearers, mapped("list certificates of other issuers", err)
}

// JoinTokensOfRoot counts the join tokens that can be used now and carry this root, or one that was not noted.
func (s *Store) JoinTokensOfRoot(ctx context.Context, root string, now time.Time) (n int, err error) {
	err = s.pool.QueryRow(ctx, countTokensOfRoot, root, now).Scan(&n)
	return n, mapped("count join tokens", err)
}
