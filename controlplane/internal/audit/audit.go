// Package audit writes and checks the chains of audit rows: one for each group and one for the system. A row's MAC covers
// the row and the MAC before it, and the group's authenticated head names the last, so that a row that was altered,
// removed, put in, moved or cut off shows. Rows name what was done to what by whom, never contents. Everything that
// writes calls Append or Record inside its transaction; the admin API calls Verify.
package audit

import (
	"context"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/store"
)

// Chain authenticates the rows and the head of one group; *sealer.Group does.
type Chain interface {
	AuditMAC(row store.AuditRow) []byte
	VerifyAudit(row store.AuditRow) bool
	MACHead(head store.Head) []byte
	VerifyHead(head store.Head) error
}

// Tx is a transaction on the group of the chain; *store.GroupTx is one.
type Tx interface {
	Head() store.Head
	AppendAudit(ctx context.Context, row store.AuditRow) error
	SetHead(ctx context.Context, head store.Head) error
}

// Event is what happened.
type Event struct {
	At    time.Time
	Actor string
	// Action is a word like "resources.apply" or "gateway.revoke".
	Action string
	// Subjects are what it was done to, like "routes/hello".
	Subjects []string
	// Revision is the one that came of it, 0 if none did.
	Revision int64
	// Detail is for people.
	Detail string
}

// Append writes the event as the row after head and answers the head that names it. The caller has verified head; it
// authenticates and writes the answer once the rest of it is known.
func Append(ctx context.Context, tx Tx, c Chain, head store.Head, e Event) (store.Head, error) {
	row := store.AuditRow{
		GroupUID: head.GroupUID,
		Seq:      head.AuditSeq + 1,
		At:       e.At.UTC().Truncate(time.Microsecond),
		Actor:    store.Printable(e.Actor),
		Action:   e.Action,
		Subjects: printable(e.Subjects),
		Revision: e.Revision,
		Detail:   store.Printable(e.Detail),
		Prev:     head.AuditHead,
	}
	row.MAC = c.AuditMAC(row)
	if err := tx.AppendAudit(ctx, row); err != nil {
		return store.Head{}, err
	}
	head.AuditSeq, head.AuditHead = row.Seq, row.MAC
	return head, nil
}

// printable makes the texts what will be read back: the MAC is over what is stored.
func printable(subjects []string) []string {
	out := make([]string, len(subjects))
	for i, s := range subjects {
		out[i] = store.Printable(s)
	}
	return out
}

// Record writes an event that comes with no revision, and the head that names it.
func Record(ctx context.Context, tx Tx, c Chain, e Event) error {
	head := tx.Head()
	if err := c.VerifyHead(head); err != nil {
		return fmt.Errorf("record %s: %w", e.Action, err)
	}
	head, err := Append(ctx, tx, c, head, e)
	if err != nil {
		return err
	}
	head.UpdatedAt = e.At
	head.MAC = c.MACHead(head)
	return tx.SetHead(ctx, head)
}
