package status

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/exchange"
)

// anonymousLogin is how callers are said to have come in that presented nothing, beside the types of policies.
const anonymousLogin = "anonymous"

// outcome is what an authentication policy has said.
type outcome int

const (
	accepted outcome = iota
	missing
	refused
	limited
	unavailable
	outcomes
)

func (o outcome) String() string {
	return [outcomes]string{"accepted", "missing", "refused", "limited", "unavailable"}[o]
}

func outcomeOf(r *exchange.Refusal) outcome {
	switch {
	case r.IsAbsent():
		return missing
	case r.Status() == 429:
		return limited
	case r.Status() >= 500:
		return unavailable
	}
	return refused
}

// logins counts what authentication policies have said, by their type. A request is counted for each policy that let it in, or
// for the one that answers it.
type logins struct {
	types   []string
	stripes []loginStripe
	desc    *prometheus.Desc
}

// loginStripe is mostly used by one processor.
type loginStripe struct {
	n []atomic.Uint64 // by type and outcome
	_ [128]byte
}

func newLogins(types []string, stripes int) *logins {
	l := &logins{
		types: append(slices.Clone(types), anonymousLogin), stripes: make([]loginStripe, stripes),
		desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, "logins_total"),
			"What authentication policies said of requests: accepted, missing (nothing was presented), refused, limited (too many guesses), unavailable.", []string{"policy", "outcome"}, nil),
	}
	for i := range l.stripes {
		l.stripes[i].n = make([]atomic.Uint64, len(l.types)*int(outcomes))
	}
	return l
}

func (l *logins) observe(stripe int, x *exchange.Exchange) {
	for _, p := range x.Proofs {
		l.add(stripe, p.How, accepted)
	}
	switch r := x.Refusal(); {
	case len(x.Proofs) > 0:
	case x.Principal != nil:
		l.add(stripe, x.Principal.How, accepted)
	case x.StoppedBy != nil && r != nil:
		l.add(stripe, x.StoppedBy.Type, outcomeOf(r))
	}
}

func (l *logins) add(stripe int, typ string, o outcome) {
	if i := slices.Index(l.types, typ); i >= 0 {
		l.stripes[stripe].n[i*int(outcomes)+int(o)].Add(1)
	}
}

// Describe implements prometheus.Collector.
func (l *logins) Describe(out chan<- *prometheus.Desc) { out <- l.desc }

// Collect implements prometheus.Collector.
func (l *logins) Collect(out chan<- prometheus.Metric) {
	for i, typ := range l.types {
		for o := range outcomes {
			n := uint64(0)
			for s := range l.stripes {
				n += l.stripes[s].n[i*int(outcomes)+int(o)].Load()
			}
			if n > 0 {
				out <- prometheus.MustNewConstMetric(l.desc, prometheus.CounterValue, float64(n), typ, o.String())
			}
		}
	}
}
