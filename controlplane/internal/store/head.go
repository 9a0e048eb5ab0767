package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Head is where a group stands. All of it but UpdatedAt and MAC is covered by MAC.
type Head struct {
	GroupUID string
	Group    string
	// Epoch changes when history was rewound; never 0, below 2^63.
	Epoch uint64
	// Revision is the number of the last change; 0 before the first.
	Revision int64
	// ResourceCount is the number of rows of the set, system records included.
	ResourceCount int64
	// Digest is that of the set. It can be in the clear: the set always holds a random pepper, so nothing can be guessed
	// against it.
	Digest         [32]byte
	KeyringVersion int32
	// AuditSeq and AuditHead are number and MAC of the last row of the audit chain; 0 and empty before the first.
	AuditSeq  int64
	AuditHead []byte
	MAC       []byte
	UpdatedAt time.Time
}

// HeadStamp is the part of a head that tells whether something has changed.
type HeadStamp struct {
	GroupUID       string
	Group          string
	Epoch          uint64
	Revision       int64
	Digest         [32]byte
	KeyringVersion int32
	AuditSeq       int64
}

const headColumns = `
select h.group_uid, g.name, h.epoch, h.revision, h.resource_count, h.digest, h.keyring_version, h.audit_seq,
       h.audit_head, h.mac, h.updated_at
from heads h join groups g on g.uid = h.group_uid`

const (
	selectHead      = headColumns + ` where g.name = $1`
	selectHeadByUID = headColumns + ` where h.group_uid = $1`
	selectHeadLock  = headColumns + ` where g.name = $1 for update of h`
	selectStamps    = `
select h.group_uid, g.name, h.epoch, h.revision, h.digest, h.keyring_version, h.audit_seq
from heads h join groups g on g.uid = h.group_uid
where h.group_uid <> $1
order by g.name`
	insertHead = `
insert into heads (group_uid, epoch, revision, resource_count, digest, keyring_version, audit_seq, audit_head, mac,
    updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	updateHead = `
update heads
set epoch = $2, revision = $3, resource_count = $4, digest = $5, keyring_version = $6, audit_seq = $7,
    audit_head = $8, mac = $9, updated_at = $10
where group_uid = $1`
)

// Head reads the head of a group without locking it.
func (s *Store) Head(ctx context.Context, group string) (Head, error) {
	return readHead(ctx, s.pool, selectHead, group)
}

// Heads answers where every group stands, the system apart; it is what replicas poll.
func (s *Store) Heads(ctx context.Context) ([]HeadStamp, error) {
	rows, err := s.pool.Query(ctx, selectStamps, SystemUID)
	if err != nil {
		return nil, mapped("read heads", err)
	}
	stamps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (HeadStamp, error) {
		var h HeadStamp
		var digest []byte
		err := row.Scan(&h.GroupUID, &h.Group, &h.Epoch, &h.Revision, &digest, &h.KeyringVersion, &h.AuditSeq)
		copy(h.Digest[:], digest)
		return h, err
	})
	return stamps, mapped("read heads", err)
}

func readHead(ctx context.Context, q querier, query, group string) (Head, error) {
	rows, err := q.Query(ctx, query, group)
	if err != nil {
		return Head{}, mapped("read head of group "+group, err)
	}
	h, err := pgx.CollectExactlyOneRow(rows, scanHead)
	if errors.Is(err, pgx.ErrNoRows) {
		return Head{}, absentHead(ctx, q, group)
	}
	return h, mapped("read head of group "+group, err)
}

func scanHead(row pgx.CollectableRow) (Head, error) {
	var h Head
	var digest []byte
	err := row.Scan(&h.GroupUID, &h.Group, &h.Epoch, &h.Revision, &h.ResourceCount, &digest, &h.KeyringVersion, &h.AuditSeq,
		&h.AuditHead, &h.MAC, &h.UpdatedAt)
	copy(h.Digest[:], digest)
	return h, err
}

// absentHead tells a group that does not exist from one whose head was removed.
func absentHead(ctx context.Context, q querier, group string) error {
	if _, err := readGroup(ctx, q, group); err != nil {
		return err
	}
	return fmt.Errorf("read head of group %s: %w", group, ErrMissing)
}

func (h Head) args() []any {
	return []any{
		h.GroupUID, h.Epoch, h.Revision, h.ResourceCount, h.Digest[:], h.KeyringVersion, h.AuditSeq, notNil(h.AuditHead),
		h.MAC, h.UpdatedAt,
	}
}

// notNil keeps an empty value from becoming null.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
