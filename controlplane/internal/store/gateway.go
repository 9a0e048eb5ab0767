package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Gateway is one data-plane process that enrolled. Zero times are "never".
type Gateway struct {
	ID          string
	GroupUID    string
	Group       string
	Name        string
	Labels      map[string]string
	Version     string
	PolicyTypes []string
	// Attestor says how it joined, Attestation by what: the id of a join token, a service account.
	Attestor    string
	Attestation string
	// SPKIHash is the SHA-256 of the public key of its newest certificate.
	SPKIHash      []byte
	Serial        string
	NotAfter      time.Time
	EnrolledAt    time.Time
	RevokedAt     time.Time
	RevokedBy     string
	RevokedReason string
	GatewayState
}

// GatewayState is what was last heard of a gateway.
type GatewayState struct {
	LastSeen time.Time
	// Replica is where its stream is; empty if nowhere.
	Replica         string
	AppliedEpoch    uint64
	AppliedRevision int64
	AppliedDigest   []byte
	Faults          []Fault
}

// Fault is a resource that a gateway cannot run.
type Fault struct {
	Kind   string `json:"kind"`
	UID    string `json:"uid"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Hello is what a gateway says of itself when its stream opens.
type Hello struct {
	Version     string
	PolicyTypes []string
	Labels      map[string]string
	Replica     string
	At          time.Time
}

// Certificate is what is kept of a gateway's newest certificate.
type Certificate struct {
	SPKIHash []byte
	Serial   string
	// Issuer is the id of the authority that issued it.
	Issuer   string
	NotAfter time.Time
}

const gatewayColumns = `
select w.id, w.group_uid, g.name, w.name, w.labels, w.version, w.policy_types, w.attestor, w.attestation, w.spki_hash,
       w.serial, w.not_after, w.enrolled_at, w.revoked_at, w.revoked_by, w.revoked_reason, w.last_seen, w.replica,
       w.applied_epoch, w.applied_revision, w.applied_digest, w.faults
from gateways w join groups g on g.uid = w.group_uid `

const (
	selectGateways = gatewayColumns + `where g.name = $1 order by w.enrolled_at, w.id`
	selectGateway  = gatewayColumns + `where g.name = $1 and w.id = $2`
	selectByKey    = gatewayColumns + `where g.name = $1 and w.spki_hash = $2`
	// What a gateway knows is not known before its first hello.
	selectUnable = gatewayColumns + `
where g.name = $1 and w.revoked_at is null and w.policy_types <> '{}' and not w.policy_types @> $2 order by w.enrolled_at, w.id`
	selectRevoked = `select id from gateways where revoked_at is not null`
	countRevoked  = `select count(*) from gateways where revoked_at is not null and group_uid = (select uid from groups where name = $1)`
	insertGateway = `
insert into gateways (id, group_uid, name, labels, version, attestor, attestation, spki_hash, serial, not_after, enrolled_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
	updateCertificate = `
update gateways set spki_hash = $3, serial = $4, not_after = $5, issuer = $6
where id = $2 and group_uid = (select uid from groups where name = $1) and revoked_at is null`
	updateHello = `
update gateways set version = $3, policy_types = $4, labels = $5, replica = $6, last_seen = $7
where id = $2 and group_uid = (select uid from groups where name = $1)`
	updateState = `
update gateways set last_seen = $3, replica = $4, applied_epoch = $5, applied_revision = $6, applied_digest = $7, faults = $8
where id = $2 and group_uid = (select uid from groups where name = $1)`
	revokeGateway = `
update gateways set revoked_at = $3, revoked_by = $4, revoked_reason = $5
where id = $1 and group_uid = $2 and revoked_at is null`
)

// Gateways lists the gateways of a group, revoked ones too.
func (s *Store) Gateways(ctx context.Context, group string) ([]Gateway, error) {
	rows, err := s.pool.Query(ctx, selectGateways, group)
	if err != nil {
		return nil, mapped("list gateways", err)
	}
	gateways, err := pgx.CollectRows(rows, scanGateway)
	return gateways, mapped("list gateways", err)
}

// GatewaysWithout lists the gateways of a group that do not know all of the policy types, without revoked ones.
func (s *Store) GatewaysWithout(ctx context.Context, group string, policyTypes []string) ([]Gateway, error) {
	rows, err := s.pool.Query(ctx, selectUnable, group, policyTypes)
	if err != nil {
		return nil, mapped("list gateways by policy types", err)
	}
	gateways, err := pgx.CollectRows(rows, scanGateway)
	return gateways, mapped("list gateways by policy types", err)
}

// Gateway answers one gateway of a group.
func (s *Store) Gateway(ctx context.Context, group, id string) (Gateway, error) {
	return readGateway(ctx, s.pool, selectGateway, group, id)
}

// Gateway answers one gateway of the group.
func (t *GroupTx) Gateway(ctx context.Context, id string) (Gateway, error) {
	return readGateway(ctx, t.tx, selectGateway, t.head.Group, id)
}

// GatewayByKey answers the gateway of the group whose newest certificate has that key.
func (t *GroupTx) GatewayByKey(ctx context.Context, spkiHash []byte) (Gateway, error) {
	return readGateway(ctx, t.tx, selectByKey, t.head.Group, spkiHash)
}

// RevokedGateways answers the ids of all revoked gateways.
func (s *Store) RevokedGateways(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, selectRevoked)
	if err != nil {
		return nil, mapped("list revoked gateways", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return ids, mapped("list revoked gateways", err)
}

// CreateGateway writes a gateway that has just enrolled in the group.
func (t *GroupTx) CreateGateway(ctx context.Context, g Gateway) error {
	labels, err := marshalLabels(printableMap(g.Labels))
	if err != nil {
		return fmt.Errorf("create gateway: %w", err)
	}
	_, err = t.tx.Exec(ctx, insertGateway, g.ID, t.head.GroupUID, Printable(g.Name), labels, Printable(g.Version), g.Attestor, g.Attestation,
		g.SPKIHash, g.Serial, nullTime(g.NotAfter), g.EnrolledAt)
	if err != nil {
		return mapped("create gateway", err)
	}
	t.Wake(TopicGateways)
	return nil
}

// RevokedIn answers how many gateways of a group have been revoked.
func (s *Store) RevokedIn(ctx context.Context, group string) (n uint64, err error) {
	err = s.pool.QueryRow(ctx, countRevoked, group).Scan(&n)
	return n, mapped("count revoked gateways", err)
}

// RevokeGateway refuses a gateway of the group for good. ErrNotFound also says that it is revoked already.
func (t *GroupTx) RevokeGateway(ctx context.Context, id, by, reason string, at time.Time) error {
	tag, err := t.tx.Exec(ctx, revokeGateway, id, t.head.GroupUID, at, by, reason)
	if err != nil {
		return mapped("revoke gateway", err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("revoke gateway %s: %w", id, ErrNotFound)
	}
	t.Wake(TopicGateways)
	return nil
}

// SetGatewayCertificate notes a renewed certificate. It answers ErrNotFound for a revoked gateway, whatever was known
// when the renewal began.
func (s *Store) SetGatewayCertificate(ctx context.Context, group, id string, c Certificate) error {
	return s.updateGateway(ctx, "note certificate", updateCertificate, group, id, c.SPKIHash, c.Serial, c.NotAfter, c.Issuer)
}

// SetGatewayHello notes that a gateway's stream opened.
func (s *Store) SetGatewayHello(ctx context.Context, group, id string, h Hello) error {
	labels, err := marshalLabels(printableMap(h.Labels))
	if err != nil {
		return fmt.Errorf("note hello of gateway: %w", err)
	}
	return s.updateGateway(ctx, "note hello", updateHello, group, id, Printable(h.Version),
		printableAll(h.PolicyTypes), labels,
		h.Replica, h.At)
}

// SetGatewayState notes what was last heard of a gateway; meant for the end of a stream, not for every ack.
func (s *Store) SetGatewayState(ctx context.Context, group, id string, g GatewayState) error {
	faults, err := json.Marshal(printableFaults(g.Faults))
	if err != nil {
		return fmt.Errorf("note state of gateway: %w", err)
	}
	return s.updateGateway(ctx, "note state", updateState, group, id, nullTime(g.LastSeen), g.Replica, g.AppliedEpoch,
		g.AppliedRevision, notNil(g.AppliedDigest), faults)
}

func (s *Store) updateGateway(ctx context.Context, doing, query, group, id string, args ...any) error {
	tag, err := s.pool.Exec(ctx, query, append([]any{group, id}, args...)...)
	if err != nil {
		return mapped(doing+" of gateway", err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("%s of gateway %s: %w", doing, id, ErrNotFound)
	}
	return nil
}

func readGateway(ctx context.Context, q querier, query string, args ...any) (Gateway, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return Gateway{}, mapped("read gateway", err)
	}
	gateway, err := pgx.CollectExactlyOneRow(rows, scanGateway)
	return gateway, mapped("read gateway", err)
}

func scanGateway(row pgx.CollectableRow) (Gateway, error) {
	var g Gateway
	var notAfter, revoked, seen *time.Time
	err := row.Scan(&g.ID, &g.GroupUID, &g.Group, &g.Name, &g.Labels, &g.Version, &g.PolicyTypes, &g.Attestor,
		&g.Attestation, &g.SPKIHash, &g.Serial, &notAfter, &g.EnrolledAt, &revoked, &g.RevokedBy, &g.RevokedReason, &seen,
		&g.Replica, &g.AppliedEpoch, &g.AppliedRevision, &g.AppliedDigest, &g.Faults)
	g.NotAfter, g.RevokedAt, g.LastSeen = zeroTime(notAfter), zeroTime(revoked), zeroTime(seen)
	return g, err
}
