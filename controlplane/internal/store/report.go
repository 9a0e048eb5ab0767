package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// ReplicaReport is what the gateways of a group whose streams are on a replica have applied. However many gateways
// acknowledge, it is one row for each group and replica.
type ReplicaReport struct {
	Group    string
	Replica  string
	At       time.Time
	Gateways []GatewayReport
}

// GatewayReport is one gateway in a ReplicaReport.
type GatewayReport struct {
	ID       string    `json:"id"`
	Epoch    uint64    `json:"epoch"`
	Revision int64     `json:"revision"`
	Digest   []byte    `json:"digest,omitempty"`
	LastSeen time.Time `json:"last_seen"`
	Faults   []Fault   `json:"faults,omitempty"`
	// Bundle begins the digest of the trust bundle that it has taken over, hexadecimal.
	Bundle string `json:"bundle,omitempty"`
	// Contract is the newest of which it knows everything.
	Contract uint32 `json:"contract,omitempty"`
	// Now counts requests since the gateway runs the revision, Before those with the one it ran until then.
	Now    Counts `json:"now,omitzero"`
	Before Counts `json:"before,omitzero"`
}

// Counts are requests, and those of them that were answered 5xx.
type Counts struct {
	Requests uint64 `json:"requests,omitempty"`
	Errors   uint64 `json:"errors,omitempty"`
}

const (
	upsertReport = `
insert into replica_reports (group_uid, replica, at, body)
select uid, $2, $3, $4 from groups where name = $1
on conflict on constraint replica_reports_pkey do update set at = excluded.at, body = excluded.body`
	selectReports = `
select g.name, r.replica, r.at, r.body
from replica_reports r join groups g on g.uid = r.group_uid
where g.name = $1 and r.at >= $2
order by r.replica`
	deleteReports = `delete from replica_reports where replica = $1 or at < $2`
)

// SaveReport replaces what a replica says of a group.
func (s *Store) SaveReport(ctx context.Context, r ReplicaReport) error {
	gateways := slices.Clone(r.Gateways)
	for i := range gateways {
		gateways[i].Faults = printableFaults(gateways[i].Faults)
	}
	body, err := json.Marshal(gateways)
	if err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	_, err = s.pool.Exec(ctx, upsertReport, r.Group, r.Replica, r.At, body)
	return mapped("save report", err)
}

// Reports answers what replicas said of a group since then.
func (s *Store) Reports(ctx context.Context, group string, since time.Time) ([]ReplicaReport, error) {
	rows, err := s.pool.Query(ctx, selectReports, group, since)
	if err != nil {
		return nil, mapped("read reports", err)
	}
	reports, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ReplicaReport, error) {
		var r ReplicaReport
		err := row.Scan(&r.Group, &r.Replica, &r.At, &r.Gateways)
		return r, err
	})
	return reports, mapped("read reports", err)
}

// DropReports removes the reports of a replica that ends, and those that nobody renewed since then.
func (s *Store) DropReports(ctx context.Context, replica string, before time.Time) error {
	_, err := s.pool.Exec(ctx, deleteReports, replica, before)
	return mapped("drop reports", err)
}
