package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxQueued bounds the memory of statements that wait.
const maxQueued = 8

// pipeline is a transaction whose statements may wait for each other and go to the database together: a change of
// the configuration is half a dozen of them, and each alone costs the way there and back. Everything that is asked or
// written otherwise goes after what has waited, so that a transaction sees its own writes. It is not safe for concurrent use.
type pipeline struct {
	tx      pgx.Tx
	waiting []statement
}

// statement waits to be sent.
type statement struct {
	sql  string
	args []any
	// done takes what came of it and answers the error of the transaction.
	done func(pgconn.CommandTag, error) error
}

// failing is done for statements of which nothing but an error is of interest.
func failing(doing string) func(pgconn.CommandTag, error) error {
	return func(_ pgconn.CommandTag, err error) error { return mapped(doing, err) }
}

// later sends the statement with the next ones, at the latest before the transaction commits. An error may be one of a statement
// that has waited.
func (p *pipeline) later(ctx context.Context, s statement) error {
	p.waiting = append(p.waiting, s)
	if len(p.waiting) < maxQueued {
		return nil
	}
	return p.flush(ctx)
}

// flush sends what waits and answers the first error, in the order of the statements.
func (p *pipeline) flush(ctx context.Context) (err error) {
	if len(p.waiting) == 0 {
		return nil
	}
	waiting := p.waiting
	p.waiting = nil
	batch := &pgx.Batch{}
	for _, s := range waiting {
		batch.Queue(s.sql, s.args...)
	}
	results := p.tx.SendBatch(ctx, batch)
	defer func() {
		if closing := results.Close(); err == nil {
			err = mapped("write", closing)
		}
	}()
	for _, s := range waiting {
		if err := s.done(results.Exec()); err != nil {
			return err
		}
	}
	return nil
}

// Exec implements querier.
func (p *pipeline) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := p.flush(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	return p.tx.Exec(ctx, sql, args...)
}

// Query implements querier.
func (p *pipeline) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.tx.Query(ctx, sql, args...)
}

// QueryRow implements querier.
func (p *pipeline) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := p.flush(ctx); err != nil {
		return failedRow{err}
	}
	return p.tx.QueryRow(ctx, sql, args...)
}

// failedRow is the answer to a question that was not asked.
type failedRow struct{ err error }

// Scan implements pgx.Row.
func (r failedRow) Scan(...any) error { return r.err }
