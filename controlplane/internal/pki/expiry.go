package pki

import (
	"context"
	"crypto/x509"
	"time"
)

// soon is when an authority's end is told at the latest; one with a shorter life is told in its last quarter.
const soon = 180 * 24 * time.Hour

// Ends says until when the authorities of each kind that sign now are valid.
func (c *CA) Ends() map[string]time.Time {
	s := c.state.Load()
	return map[string]time.Time{kindRoot: s.root.cert.NotAfter, kindIntermediate: s.intermediate.cert.NotAfter}
}

// NoteExpiry logs every authority that signs now and is near its end: an intermediate is replaced when a third of its life is
// left, so for one that is near its end that has failed for long; a root is replaced by nobody but the operator.
func (c *CA) NoteExpiry(ctx context.Context) {
	s, now := c.state.Load(), c.cfg.Now()
	for kind, cert := range map[string]*x509.Certificate{kindRoot: s.root.cert, kindIntermediate: s.intermediate.cert} {
		left := cert.NotAfter.Sub(now)
		if left < min(cert.NotAfter.Sub(cert.NotBefore)/4, soon) {
			c.cfg.Log.WarnContext(ctx, "certificate authority is near its end", "kind", kind, "not_after", cert.NotAfter, "left", left.Round(time.Minute))
		}
	}
}
