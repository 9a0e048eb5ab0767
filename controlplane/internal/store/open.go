package store

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"keyward.dev/shared/settings"
)

// errUnexpectedEOF is how a killed server looks from here.
var errUnexpectedEOF = io.ErrUnexpectedEOF

// defaultMaxConns leaves connections for readers while writers of one group wait for each other; the driver's default is
// 4 on small machines.
const defaultMaxConns = 16

// Config says where the database is.
type Config struct {
	// DSN is a connection string or URL as PostgreSQL knows them; several hosts are tried in order. It is a secret.
	DSN string
	// Login is asked for each connection as whom it is made; nil: as DSN says.
	Login func(ctx context.Context) Login
	// Outdated reports that connections of a user are to be used no longer, as another one has its place; nil: it never is so.
	Outdated func(user string) bool
	// AllowInsecure accepts connections below sslmode=verify-full to hosts that are not local.
	AllowInsecure bool
	// MaxConns bounds the pool; 0 leaves the choice to DSN or driver.
	MaxConns int32
	// Log gets what nobody waits for; nil discards it.
	Log *slog.Logger
}

// Login is as whom a connection is made. Without a user it is that of the DSN.
type Login struct {
	User     string
	Password settings.Secret
}

// LoginOf answers as whom a DSN connects.
func LoginOf(dsn string) (Login, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return Login{}, fmt.Errorf("parse database url: %w", err)
	}
	return Login{c.User, settings.NewSecret(c.Password)}, nil
}

// as puts a login into what connects; nil leaves it as it is.
type as func(ctx context.Context) Login

func (a as) put(ctx context.Context, c *pgx.ConnConfig) {
	if a == nil {
		return
	}
	l := a(ctx)
	if l.User != "" {
		c.User = l.User
	}
	c.Password = l.Password.Reveal()
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	pool  *pgxpool.Pool
	login as
	log   *slog.Logger
}

// Open makes a pool and checks that the database answers and that its schema fits this program. The context bounds the
// opening only.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", err)
	}
	if !cfg.AllowInsecure {
		if err := checkDSN(pc.ConnConfig); err != nil {
			return nil, err
		}
	}
	switch {
	case cfg.MaxConns > 0:
		pc.MaxConns = cfg.MaxConns
	case !strings.Contains(cfg.DSN, "pool_max_conns"):
		pc.MaxConns = defaultMaxConns
	}
	setDefaults(pc.ConnConfig)
	pc.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		as(cfg.Login).put(ctx, c)
		return nil
	}
	if cfg.Outdated != nil {
		pc.PrepareConn = func(_ context.Context, c *pgx.Conn) (bool, error) { return !cfg.Outdated(c.Config().User), nil }
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, mapped("open database", err)
	}
	s := &Store{pool: pool, login: cfg.Login, log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.check(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) check(ctx context.Context) error {
	if err := s.CheckSchema(ctx); err != nil {
		return err
	}
	return s.warnOfRights(ctx)
}

// setDefaults bounds what a statement, a lock or a replica that died in mid-transaction can hold up. The connection string
// may say otherwise.
func setDefaults(cfg *pgx.ConnConfig) {
	for name, value := range map[string]string{
		"application_name":                    "keyward",
		"lock_timeout":                        "10s",
		"statement_timeout":                   "60s",
		"idle_in_transaction_session_timeout": "60s",
	} {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
}

// Close waits until all connections are given back and closes them.
func (s *Store) Close() { s.pool.Close() }

// Pool is for the job queue, whose tables lie beside ours, and for nothing else.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return mapped("ping database", s.pool.Ping(ctx))
}
