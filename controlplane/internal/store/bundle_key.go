package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// BundleKey is a version of the key that a group's fallback bundles are sealed to; that of the system signs them.
type BundleKey struct {
	Version   uint32
	Sealed    []byte
	CreatedAt time.Time
}

const (
	selectBundleKey = `
select k.version, k.sealed, k.created_at from bundle_keys k join groups g on g.uid = k.group_uid
where g.name = $1 order by k.version desc limit 1`
	insertBundleKey = `insert into bundle_keys (group_uid, version, sealed, created_at) values ($1, $2, $3, $4)`
)

// BundleKey answers the newest version of a group's key; ErrNotFound if it has none.
func (s *Store) BundleKey(ctx context.Context, group string) (BundleKey, error) {
	return readBundleKey(ctx, s.pool, group)
}

// BundleKey answers the newest version of the group's key; ErrNotFound if it has none.
func (t *GroupTx) BundleKey(ctx context.Context) (BundleKey, error) {
	return readBundleKey(ctx, t.tx, t.head.Group)
}

// CreateBundleKey writes a version of the group's key.
func (t *GroupTx) CreateBundleKey(ctx context.Context, k BundleKey) error {
	_, err := t.tx.Exec(ctx, insertBundleKey, t.head.GroupUID, k.Version, k.Sealed, k.CreatedAt)
	return mapped("create bundle key", err)
}

func readBundleKey(ctx context.Context, q querier, group string) (BundleKey, error) {
	rows, err := q.Query(ctx, selectBundleKey, group)
	if err != nil {
		return BundleKey{}, mapped("read bundle key", err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (BundleKey, error) {
		var k BundleKey
		err := row.Scan(&k.Version, &k.Sealed, &k.CreatedAt)
		return k, err
	})
	return k, mapped("read bundle key", err)
}
