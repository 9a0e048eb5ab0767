//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package accesslog_test

import (
	"io"
	"testing"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
)

func TestObserveDoesNotAllocate(t *testing.T) {
	x := refused()
	x.Request.Header.Add(exchange.Field("X-Tenant", "t1"))
	for name, s := range map[string]*runtime.AccessLog{
		"plain": nil,
		"everything": {
			Sample: 1_000_000, Redact: map[string]struct{}{"host": {}}, Headers: []string{"x-tenant"}, ClientIP: runtime.ClientIPHashed,
		},
	} {
		l := accesslog.New(io.Discard, quiet())
		o := accesslog.Outcome{Status: 403, Code: "forbidden", Settings: s, Route: open(t)}
		for range 20 { // each shard makes its buffer
			l.Observe(x, o)
		}
		if n := testing.AllocsPerRun(50, func() { l.Observe(x, o) }); n != 0 {
			t.Errorf("%s: Observe allocates %v times", name, n)
		}
	}
}
