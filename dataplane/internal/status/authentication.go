package status

import (
	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/hostsvc"
)

// authentication exports how the services do that authentication policies have in common.
type authentication struct {
	stats func() hostsvc.Stats

	fetches, sets, oldest, unknown *prometheus.Desc
	tokens, tokenBytes             *prometheus.Desc
	uses, full, guesses            *prometheus.Desc
}

func newAuthentication(stats func() hostsvc.Stats) *authentication {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
	}
	return &authentication{
		stats:   stats,
		fetches: desc("key_fetches_total", "Fetches of key sets of issuers.", "result"),
		sets:    desc("key_sets", "Key sets of issuers: fresh, stale (used on although the last fetch failed) or missing (of no use, tokens are answered 503).", "state"),
		oldest:  desc("key_set_oldest_timestamp_seconds", "When that key set in use was fetched that was not for the longest time; 0 without any."),
		unknown: desc("unknown_keys_total",
			"Tokens of keys that were not there: found or absent after the set was fetched again, later (answered 503, too many ask), unsure (503, it cannot be fetched).", "answer"),
		tokens:     desc("token_lookups_total", "Tokens looked for among those that were verified: hit or miss.", "result"),
		tokenBytes: desc("token_cache_bytes", "What verified tokens take that are remembered, roughly."),
		uses:       desc("single_use_entries", "What is remembered because it counts once: signatures, proofs (DPoP), tokens.", "table"),
		full:       desc("single_use_full_total", "Requests answered 503 because nothing more that counts once could be remembered.", "table"),
		guesses:    desc("guess_counters", "Counters against guessing that are held."),
	}
}

// Describe implements prometheus.Collector.
func (a *authentication) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{a.fetches, a.sets, a.oldest, a.unknown, a.tokens, a.tokenBytes, a.uses, a.full, a.guesses} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (a *authentication) Collect(out chan<- prometheus.Metric) {
	s := a.stats()
	count := func(d *prometheus.Desc, n uint64, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
	level := func(d *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	k := s.Keys
	count(a.fetches, k.Fetched, "ok")
	count(a.fetches, k.Failed, "failed")
	level(a.sets, int64(k.Fresh), "fresh")
	level(a.sets, int64(k.Stale), "stale")
	level(a.sets, int64(k.Missing), "missing")
	oldest := int64(0)
	if !k.Oldest.IsZero() {
		oldest = k.Oldest.Unix()
	}
	level(a.oldest, oldest)
	count(a.unknown, k.Found, "found")
	count(a.unknown, k.Absent, "absent")
	count(a.unknown, k.Later, "later")
	count(a.unknown, k.Unsure, "unsure")
	count(a.tokens, s.Tokens.Hits, "hit")
	count(a.tokens, s.Tokens.Misses, "miss")
	level(a.tokenBytes, int64(s.Tokens.Bytes))
	for table, u := range map[string]hostsvc.UseStats{"signatures": s.Replays, "proofs": s.Proofs, "tokens": s.OneTime} {
		level(a.uses, int64(u.Entries), table)
		count(a.full, u.Full, table)
	}
	level(a.guesses, int64(s.Counters))
}
