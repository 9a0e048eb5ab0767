package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// querier is what pool and transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// GroupTx is a transaction that holds the head of a group. It is not safe for concurrent use and ends with the function
// it was given to.
type GroupTx struct {
	tx   *pipeline
	head Head
	// unsealed is set by every write that the head covers and cleared by SetHead.
	unsealed bool
	// nested are the groups made in this transaction.
	nested []*GroupTx
	// wakes are the topics to wake on commit, shared with nested.
	wakes map[string]bool
}

// maxAttempts bounds how often a transaction is repeated that the database rolled back for the sake of others.
const maxAttempts = 5

// InGroup runs fn in a transaction that has locked the head of the group, so that writers of a group go one after the
// other and see each other's work. It commits if fn answers nil. fn is repeated after a serialisation failure or a deadlock,
// as with a migration, and must therefore not have effects elsewhere.
func (s *Store) InGroup(ctx context.Context, group string, fn func(context.Context, *GroupTx) error) error {
	for try := 1; ; try++ {
		err := s.inGroup(ctx, group, fn)
		if try == maxAttempts || !isRolledBack(err) {
			return err
		}
		// Two of our own never lock in opposite order: where no migration runs, whoever reads this has found a fault.
		s.log.WarnContext(ctx, "transaction gave way and is tried again", "group", group, "try", try, "of", maxAttempts, "error", err)
	}
}

// InSystem is InGroup for what belongs to no group: making groups, admin tokens, authorities. Where a transaction locks
// the system and a group, the system comes first.
func (s *Store) InSystem(ctx context.Context, fn func(context.Context, *GroupTx) error) error {
	return s.InGroup(ctx, SystemGroup, fn)
}

func (s *Store) inGroup(ctx context.Context, group string, fn func(context.Context, *GroupTx) error) error {
	return s.inTx(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		// The first statement, before anything is read: read committed then shows all that the lock's former owner wrote.
		head, err := readHead(ctx, tx, selectHeadLock, group)
		if err != nil {
			return err
		}
		t := &GroupTx{tx: &pipeline{tx: tx}, head: head, wakes: map[string]bool{}}
		if err := fn(ctx, t); err != nil {
			return err
		}
		return t.finish(ctx)
	})
}

// beginTimeout bounds how long a transaction waits for its begin. A database that is frozen, or cut off without a word, takes
// the question and never answers; the timeouts of the session are its own and do not help.
const beginTimeout = 6 * time.Second

// prompt begins transactions, or says soon that the database does not answer.
type prompt struct{ pool *pgxpool.Pool }

func (p prompt) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	bounded, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	tx, err := p.pool.BeginTx(bounded, opts)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w within %s: %w", ErrUnavailable, beginTimeout, err)
	}
	return tx, err
}

func (s *Store) inTx(ctx context.Context, opts pgx.TxOptions, fn func(pgx.Tx) error) error {
	var fnErr error
	err := pgx.BeginTxFunc(ctx, prompt{s.pool}, opts, func(tx pgx.Tx) error {
		fnErr = fn(tx)
		return fnErr
	})
	if err != nil && fnErr == nil {
		return mapped("run transaction", err)
	}
	return err
}

// isRolledBack tells of a transaction that the database ended for the sake of others, and that may succeed next time.
func isRolledBack(err error) bool {
	const (
		serialisationFailure = "40001"
		deadlockDetected     = "40P01"
	)
	return hasCode(err, serialisationFailure, deadlockDetected)
}

func hasCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains(codes, pg.Code)
}

// finish is the last thing before the commit.
func (t *GroupTx) finish(ctx context.Context) error {
	for _, n := range append([]*GroupTx{t}, t.nested...) {
		if n.unsealed {
			if err := t.tx.flush(ctx); err != nil {
				return err // more to the point
			}
			return fmt.Errorf("group %s: %w", n.head.Group, ErrNotSealed)
		}
	}
	if err := t.flushWakes(ctx); err != nil {
		return err
	}
	return t.tx.flush(ctx)
}

// Head answers where the group stands in this transaction.
func (t *GroupTx) Head() Head { return t.head }

// SetHead writes the head, whose MAC the caller has made, and tells the other replicas.
func (t *GroupTx) SetHead(ctx context.Context, h Head) error {
	if h.GroupUID != t.head.GroupUID || h.Group != t.head.Group {
		return fmt.Errorf("head of group %s cannot become that of %s", t.head.Group, h.Group)
	}
	err := t.tx.later(ctx, statement{updateHead, h.args(), func(tag pgconn.CommandTag, err error) error {
		if err == nil && tag.RowsAffected() != 1 {
			return fmt.Errorf("write head of group %s: %w", h.Group, ErrNotFound)
		}
		return mapped("write head of group "+h.Group, err)
	}})
	if err != nil {
		return err
	}
	if h.Revision != t.head.Revision || h.Epoch != t.head.Epoch {
		if err := t.tx.later(ctx, notification(Hint{Group: h.Group})); err != nil {
			return err
		}
	}
	t.head, t.unsealed = h, false
	return nil
}

// Reader reads one group at one moment.
type Reader struct {
	q    querier
	head Head
	// writes says that the transaction is one that writes, whose statements do not all see the same moment.
	writes bool
}

// InSnapshot runs fn with a reader whose answers all belong to the same moment. It takes no lock that writers would wait
// for.
func (s *Store) InSnapshot(ctx context.Context, group string, fn func(context.Context, *Reader) error) error {
	return again(func() error { return s.inSnapshot(ctx, group, fn) })
}

// again gives a reader that was outrun a second look, which then begins after all that it knows.
func again(read func() error) error {
	err := read()
	if errors.Is(err, ErrOutrun) {
		err = read()
	}
	return err
}

func (s *Store) inSnapshot(ctx context.Context, group string, fn func(context.Context, *Reader) error) error {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return s.inTx(ctx, opts, func(tx pgx.Tx) error {
		head, err := readHead(ctx, tx, selectHead, group)
		if err != nil {
			return err
		}
		return fn(ctx, &Reader{q: tx, head: head})
	})
}

// Reader answers a reader of this transaction.
func (t *GroupTx) Reader() *Reader { return &Reader{q: t.tx, head: t.head, writes: true} }

// Head answers where the group stands at that moment. It is already known; context and error are there for readers that
// have to ask.
func (r *Reader) Head(context.Context) (Head, error) { return r.head, nil }
