package store

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrNotFound says that the row asked for does not exist.
	ErrNotFound = errors.New("not found")
	// ErrMissing says that a row is not there without which its group cannot be: somebody removed it.
	ErrMissing = errors.New("the row is missing from the database")
	// ErrConflict says that a constraint stands against the write; errors.As with *ConflictError tells which.
	ErrConflict = errors.New("conflict")
	// ErrInvalid says that the database cannot keep a value, e.g. the zero character in text.
	ErrInvalid = errors.New("value cannot be stored")
	// ErrUnavailable says that the database could not be asked. Whether a commit that ended this way holds is unknown.
	ErrUnavailable = errors.New("database unavailable")
	// ErrOutrun is what a reader answers who finds that what it read is older than what it has come to know in the meantime.
	// It is then given another look, once.
	ErrOutrun = errors.New("what was read is older than what is known")
	// ErrNotSealed says that a transaction changed a group and did not write a new head; it was rolled back.
	ErrNotSealed = errors.New("group was changed without a new head")
)

// ConflictError names the constraint a write ran into.
type ConflictError struct {
	// Constraint is the name of the constraint, e.g. "resources_name_uq".
	Constraint string
	err        error
}

// Error names the constraint, never the values.
func (e *ConflictError) Error() string { return "conflict with " + e.Constraint }

// Is makes errors.Is(err, ErrConflict) hold.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// Unwrap gives the driver's error.
func (e *ConflictError) Unwrap() error { return e.err }

// mapped gives err its place among the errors of this package. The text of the server's error is kept out: its detail
// quotes values.
func mapped(doing string, err error) error {
	if err == nil {
		return nil
	}
	var connect *pgconn.ConnectError // before PgError, which may be inside: why a server lets nobody in is the same to callers
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	case errors.As(err, &connect):
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
	case errors.As(err, &pg):
		return mappedCode(doing, pg)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	case isConnection(err):
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// lockNotAvailable is the code of a statement that waited for a lock for as long as it may.
const lockNotAvailable = "55P03"

func mappedCode(doing string, pg *pgconn.PgError) error {
	const (
		uniqueViolation     = "23505"
		foreignKeyViolation = "23503"
		checkViolation      = "23514"
		readOnlyTransaction = "25006" // a standby that was the primary
		queryCanceled       = "57014"
	)
	switch pg.Code {
	case uniqueViolation, foreignKeyViolation, checkViolation:
		return fmt.Errorf("%s: %w", doing, &ConflictError{Constraint: pg.ConstraintName, err: pg})
	case readOnlyTransaction, lockNotAvailable, queryCanceled:
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, pg)
	}
	switch pg.Code[:2] {
	case "22": // data exception
		return fmt.Errorf("%s: %w: %w", doing, ErrInvalid, pg)
	case "08", "40", "53", "57", "58": // connection, rolled back for others, resources, operator intervention, system error
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, pg)
	}
	return fmt.Errorf("%s: %w", doing, pg)
}

func isConnection(err error) bool {
	var network net.Error
	return errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, errUnexpectedEOF)
}
