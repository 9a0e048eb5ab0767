package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"keyward.dev/controlplane/internal/store"
)

// Reader gives head and rows of one moment; *store.Reader is one.
type Reader interface {
	Head(ctx context.Context) (store.Head, error)
	AuditRows(ctx context.Context, yield func(store.AuditRow) error) error
}

// Report is what Verify found.
type Report struct {
	Intact bool
	// Events is how many rows were found good.
	Events int64
	// Fault says what is wrong with the first row that does not fit, FaultSeq its number. Both are empty if Intact.
	Fault    string
	FaultSeq int64
}

// errFault ends the walk.
var errFault = errors.New("chain is broken")

// Verify walks the chain of a group and holds it against the head. The error is about reading; a chain that is not intact
// is a Report.
func Verify(ctx context.Context, r Reader, c Chain) (Report, error) {
	head, err := r.Head(ctx)
	if err != nil {
		return Report{}, err
	}
	if err := c.VerifyHead(head); err != nil {
		return Report{Fault: err.Error(), FaultSeq: head.AuditSeq}, nil //nolint:nilerr // that is the report
	}
	w := walk{chain: c, head: head}
	if err := r.AuditRows(ctx, w.row); err != nil && !errors.Is(err, errFault) {
		return Report{}, fmt.Errorf("verify audit chain: %w", err)
	}
	if w.report.Fault == "" {
		w.end()
	}
	w.report.Intact = w.report.Fault == ""
	return w.report, nil
}

type walk struct {
	chain  Chain
	head   store.Head
	prev   []byte
	report Report
}

func (w *walk) row(row store.AuditRow) error {
	want := w.report.Events + 1
	switch {
	case row.Seq != want:
		return w.fault(want, "row %d is missing", want)
	case want > w.head.AuditSeq:
		return w.fault(want, "row %d is beyond the last row the head names, %d", want, w.head.AuditSeq)
	case !w.chain.VerifyAudit(row):
		return w.fault(want, "row %d was altered or belongs elsewhere", want)
	case !bytes.Equal(row.Prev, w.prev):
		return w.fault(want, "row %d does not follow the row before it", want)
	}
	w.prev = row.MAC
	w.report.Events = want
	return nil
}

// end holds the last row against the head.
func (w *walk) end() {
	switch last := w.report.Events; {
	case last < w.head.AuditSeq:
		_ = w.fault(last+1, "rows %d to %d were cut off", last+1, w.head.AuditSeq)
	case !bytes.Equal(w.prev, w.head.AuditHead):
		_ = w.fault(last, "row %d is not the one the head names", last)
	}
}

func (w *walk) fault(seq int64, format string, args ...any) error {
	w.report.Fault, w.report.FaultSeq = fmt.Sprintf(format, args...), seq
	return errFault
}
