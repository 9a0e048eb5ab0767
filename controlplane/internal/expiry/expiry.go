// Package expiry watches when certificates of the configuration end: it exports it as metrics, and logs an event when one comes
// to a threshold. It looks at stored certificates on a schedule, whether they are used or not, and opens nothing else of a
// group. It changes nothing and tells nobody but logs and metrics. Package app runs it as a background job.
package expiry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/check/certs"
)

// Database gives the stored resources of some kinds.
type Database interface {
	Heads(ctx context.Context) ([]store.HeadStamp, error)
	RowsOf(ctx context.Context, group string, kinds []string, yield func(store.Row) error) error
}

// Vault opens stored resources.
type Vault interface {
	Open(row store.Row) ([]byte, error)
}

// Config is what a Watch needs.
type Config struct {
	Database Database
	Unlock   func(ctx context.Context, group string) (Vault, error)
	// Every is the period in which Run is called: each threshold falls into one.
	Every time.Duration
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
}

// Watch tells certificates that come near their end.
type Watch struct {
	cfg Config
}

// New returns a watch.
func New(cfg Config) *Watch { return &Watch{cfg: cfg} }

// thresholds are how long before the end an event is told; the end is one, too.
func thresholds() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{30 * day, 7 * day, day, 0}
}

// Run tells what has come to a threshold in the period before the one that it runs in. Periods begin at the same moments
// everywhere, so that each event is told once, by whichever replica runs then; one that falls into a period in which no
// replica ran is not told, and only the metrics say it. A group that cannot be read does not keep others from being looked at.
func (w *Watch) Run(ctx context.Context) error {
	to := w.cfg.Now().Truncate(w.cfg.Every)
	heads, err := w.cfg.Database.Heads(ctx)
	if err != nil {
		return fmt.Errorf("watch certificates: %w", err)
	}
	var failed error
	for _, h := range heads {
		if err := w.group(ctx, h.Group, to.Add(-w.cfg.Every), to); err != nil {
			failed = errors.Join(failed, fmt.Errorf("watch certificates of group %s: %w", h.Group, err))
		}
	}
	return failed
}

func (w *Watch) group(ctx context.Context, group string, from, to time.Time) error {
	vault, err := w.cfg.Unlock(ctx, group)
	if err != nil {
		return err
	}
	read, issued, err := w.read(ctx, vault, group)
	if err != nil {
		return err
	}
	return w.cfg.Database.RowsOf(ctx, group, []string{certs.Kind, certs.KindCA}, func(row store.Row) error {
		m, err := open(vault, row)
		if err != nil {
			w.cfg.Log.WarnContext(ctx, "a certificate cannot be read", "group", group, "kind", row.Kind, "uid", row.UID, "err", err)
			return nil
		}
		if c, ok := m.(*configv1.Certificate); ok {
			c, _ = certs.Resolve(certs.Public(c), func(name string) (*systemv1.ResolvedSecret, string) { return read[name], "" })
			if c, _ = certs.Ordered(c, func(name string) (*systemv1.IssuedCertificate, string) { return issued[name], "" }); c == nil {
				return nil // there is none yet
			}
			m = c
		}
		if end, ok := certs.End(m); ok {
			w.tell(ctx, group, row, end, from, to)
		}
		return nil
	})
}

// read answers what the references of a group mean, by the names of the records, and what was issued for its certificates.
func (w *Watch) read(ctx context.Context, vault Vault, group string) (map[string]*systemv1.ResolvedSecret, map[string]*systemv1.IssuedCertificate, error) {
	read, issued := map[string]*systemv1.ResolvedSecret{}, map[string]*systemv1.IssuedCertificate{}
	err := w.cfg.Database.RowsOf(ctx, group, []string{certs.KindResolved, certs.KindIssued}, func(row store.Row) error {
		m, err := open(vault, row)
		if err != nil {
			w.cfg.Log.WarnContext(ctx, "what stands for a certificate cannot be read", "group", group, "kind", row.Kind, "uid", row.UID, "err", err)
			return nil
		}
		switch m := m.(type) {
		case *systemv1.ResolvedSecret:
			read[row.Name] = m
		case *systemv1.IssuedCertificate:
			issued[row.Name] = m
		}
		return nil
	})
	return read, issued, err
}

var errMalformed = errors.New("its record does not parse")

func open(vault Vault, row store.Row) (proto.Message, error) {
	packed, err := vault.Open(row)
	if err != nil {
		return nil, err
	}
	var rec syncv1.Record
	if err := proto.Unmarshal(packed, &rec); err != nil {
		return nil, errMalformed
	}
	return record.Message(&rec)
}

// tell logs the nearest threshold that was reached after from and until to.
func (w *Watch) tell(ctx context.Context, group string, row store.Row, end, from, to time.Time) {
	for _, before := range thresholds() {
		at := end.Add(-before)
		if !at.After(from) || at.After(to) {
			continue
		}
		log := w.cfg.Log.With("group", group, "kind", row.Kind, "name", row.Name, "not_after", end.UTC())
		if before == 0 {
			log.ErrorContext(ctx, "certificate has expired")
			return
		}
		log.WarnContext(ctx, "certificate is near its end", "left", before.String())
	}
}
