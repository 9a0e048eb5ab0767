package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/sealer"
)

// lookEvery is how often a replica opens keyrings that others have made, and kekChangeEvery how often what a retired key
// wraps is looked for.
const (
	lookEvery      = 15 * time.Second
	kekChangeEvery = 30 * time.Second
	kekChangeTime  = 10 * time.Minute
)

// keyrings keeps all keyrings open, so that this replica can go on without the key-encryption key, and says which key
// wraps how many of them.
type keyrings struct {
	sealer *sealer.Sealer
	log    *slog.Logger
	uses   atomic.Pointer[[]sealer.KEKUse]
	desc   *prometheus.Desc
	// What was logged last; of whoever looks.
	damaged, missing string
}

func newKeyrings(s *sealer.Sealer, log *slog.Logger) *keyrings {
	return &keyrings{sealer: s, log: log, desc: prometheus.NewDesc("keyward_controlplane_keyrings",
		"Keyrings by the key-encryption key that wraps them, and what that key is to this replica: current, retired, next or missing.",
		[]string{"kek", "role"}, nil)}
}

// look opens what is not open yet. A keyring that is damaged closes its group and nothing else; one of which the key is
// missing or away is an error.
func (k *keyrings) look(ctx context.Context) error {
	uses, err := k.sealer.KEKs(ctx)
	if err != nil {
		return err
	}
	k.uses.Store(&uses)
	var missing []string
	for _, u := range uses {
		if u.Role == kek.RoleMissing {
			missing = append(missing, u.ID)
		}
	}
	if text := strings.Join(missing, ", "); text != k.missing {
		k.missing = text
		if text != "" {
			k.log.WarnContext(ctx, "this replica lacks key-encryption keys; keyrings that are open go on", "keys", text)
		}
	}
	damaged, err := k.sealer.OpenAll(ctx)
	k.sayDamaged(ctx, damaged)
	return err
}

// sayDamaged logs damage when it is new.
func (k *keyrings) sayDamaged(ctx context.Context, damaged []error) {
	texts := make([]string, 0, len(damaged))
	for _, err := range damaged {
		texts = append(texts, err.Error())
	}
	slices.Sort(texts)
	text := strings.Join(texts, "; ")
	if text != k.damaged && text != "" {
		k.log.ErrorContext(ctx, "keyrings are damaged; their groups stay closed", "keyrings", text)
	}
	k.damaged = text
}

// Run looks again and again until ctx ends.
func (k *keyrings) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := k.look(ctx)
		if err != nil && errors.Is(err, sealer.ErrUnavailable) && err.Error() != last && ctx.Err() == nil {
			k.log.WarnContext(ctx, "a keyring cannot be opened now; those that are open go on", "err", err)
		}
		last = fmt.Sprint(err)
	}
}

// job moves keyrings away from retired keys.
func (k *keyrings) job(replica string) jobs.Job {
	return jobs.Job{Name: "kek-change", Every: kekChangeEvery, Timeout: kekChangeTime, Run: func(ctx context.Context) error {
		done, err := k.sealer.Rewrap(ctx, replica, k.log)
		if done > 0 {
			k.log.InfoContext(ctx, "keyrings were wrapped with the current key-encryption key", "keyrings", done, "failed", err != nil)
		}
		if uses, err := k.sealer.KEKs(ctx); err == nil {
			k.uses.Store(&uses)
		}
		return err
	}}
}

// Describe implements prometheus.Collector.
func (k *keyrings) Describe(ch chan<- *prometheus.Desc) { ch <- k.desc }

// Collect implements prometheus.Collector.
func (k *keyrings) Collect(ch chan<- prometheus.Metric) {
	uses := k.uses.Load()
	if uses == nil {
		return
	}
	for _, u := range *uses {
		ch <- prometheus.MustNewConstMetric(k.desc, prometheus.GaugeValue, float64(len(u.Groups)), u.ID, string(u.Role))
	}
}

// toldKEK is the line of check-db about a key. Where keyrings are to move, or cannot be opened, it says whose they are.
func toldKEK(u sealer.KEKUse) string {
	line := fmt.Sprintf("key-encryption key %s (%s): %d keyrings", u.ID, u.Role, len(u.Groups))
	if u.Role == kek.RoleCurrent || len(u.Groups) == 0 {
		return line
	}
	const most = 20
	names := strings.Join(u.Groups[:min(most, len(u.Groups))], ", ")
	if rest := len(u.Groups) - most; rest > 0 {
		names += fmt.Sprintf(" and %d more", rest)
	}
	return line + ": " + names
}
