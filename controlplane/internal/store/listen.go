package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	hintBuffer = 256
	// listenCheck is how long the connection may be silent before it is asked whether it lives: a peer that vanished
	// sends nothing.
	listenCheck = 15 * time.Second
	minBackOff  = 50 * time.Millisecond
	maxBackOff  = 5 * time.Second
)

// Listener turns notifications into hints, over a connection of its own.
type Listener struct {
	cfg   *pgx.ConnConfig
	login as
	log   *slog.Logger
	hints chan Hint
}

// NewListener makes a listener; Run runs it.
func (s *Store) NewListener() *Listener {
	return &Listener{cfg: s.pool.Config().ConnConfig, login: s.login, log: s.log, hints: make(chan Hint, hintBuffer)}
}

// Hints gives the hints. It is never closed. A hint that finds no room is dropped, because the full buffer already makes
// the receiver look. After every connect comes an empty hint, since whatever happened before went unheard.
func (l *Listener) Hints() <-chan Hint { return l.hints }

// Run listens until the context ends, and then answers nil. A lost connection is made again with growing pauses.
func (l *Listener) Run(ctx context.Context) error {
	pause := minBackOff
	for ctx.Err() == nil {
		connected, err := l.listen(ctx)
		if ctx.Err() != nil {
			break
		}
		if connected {
			pause = minBackOff
		}
		l.log.WarnContext(ctx, "listening for changes broke off", "err", err, "retry_in", pause)
		wait(ctx, pause/2+rand.N(pause/2+1))
		pause = min(pause*2, maxBackOff)
	}
	return nil //nolint:nilerr // the end was asked for
}

// listen reports whether it got as far as listening, and why it ended.
func (l *Listener) listen(ctx context.Context) (connected bool, err error) {
	cfg := l.cfg.Copy()
	l.login.put(ctx, cfg)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, mapped("connect to listen", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return false, mapped("listen", err)
	}
	l.push(Hint{})
	for {
		if err := l.next(ctx, conn); err != nil {
			return true, err
		}
	}
}

func (l *Listener) next(ctx context.Context, conn *pgx.Conn) error {
	bounded, cancel := context.WithTimeout(ctx, listenCheck)
	defer cancel()
	n, err := conn.WaitForNotification(bounded)
	if err == nil {
		l.push(parseHint(n.Payload))
		return nil
	}
	if ctx.Err() != nil || bounded.Err() == nil {
		return fmt.Errorf("wait for notification: %w", err)
	}
	ping, stop := context.WithTimeout(ctx, listenCheck)
	defer stop()
	return mapped("check listening connection", conn.Ping(ping))
}

func (l *Listener) push(h Hint) {
	select {
	case l.hints <- h:
	default:
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
