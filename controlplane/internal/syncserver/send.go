package syncserver

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/registry"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

const (
	// noteTimeout bounds the database's part in a renewal.
	noteTimeout = 3 * time.Second
	// leaveWithin is the time over which gateways that are asked to leave are spread.
	leaveWithin = 2 * time.Second
	// leaveGrace is how much longer they have before the stream is ended.
	leaveGrace = 30 * time.Second
)

// send is the only sender of the stream: change sets, and between their frames whatever else is due.
func (c *session) send(ctx context.Context) error {
	trust := c.server.cfg.CA.Trust()
	if err := c.retrust(trust); err != nil {
		return err
	}
	age := time.NewTimer(jitter(c.server.cfg.StreamAge))
	defer age.Stop()
	drain := c.server.draining
	again := make(chan struct{}) // after a batch there may be another
	close(again)
	for {
		batch, changed, err := c.fanout.Poll(ctx)
		if err != nil {
			return c.unavailable(ctx, err)
		}
		if batch != nil {
			if err := c.sendBatch(ctx, batch); err != nil {
				return err
			}
			changed = again
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-trust.Changed:
			trust = c.server.cfg.CA.Trust()
			err = c.retrust(trust)
		case <-drain:
			drain = nil
			err = c.leave(leaveWithin, c.server.cfg.DrainTime)
		case <-age.C:
			err = c.leave(leaveWithin, leaveGrace)
		case <-c.left:
			return status.Error(codes.Unavailable, "the gateway was asked to reconnect")
		case reason := <-c.resyncs:
			err = c.resync(ctx, reason)
		case csr := <-c.requests:
			err = c.renew(ctx, csr)
		case <-changed:
		}
		if err != nil {
			return err
		}
	}
}

func (c *session) unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.server.cfg.Log.WarnContext(ctx, "a gateway's set cannot be read", "group", c.who.Group, "err", err)
	return status.Error(codes.Unavailable, "the group's configuration is not available")
}

// sendBatch sends a change set. A certificate is not made to wait for the end of a long one.
func (c *session) sendBatch(ctx context.Context, b *fanout.Batch) error {
	if b.Reset {
		leave, err := c.server.fullSets.enter(ctx)
		if err != nil {
			return err
		}
		defer leave()
		defer time.AfterFunc(fullSetTurn, leave).Stop()
	}
	c.sent.add(b)
	for m := range c.parts(b) {
		if err := c.stream.SendMsg(m); err != nil {
			return err
		}
		select {
		case csr := <-c.requests:
			if err := c.renew(ctx, csr); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// parts are what the change set is sent in.
func (c *session) parts(b *fanout.Batch) iter.Seq[any] {
	return func(yield func(any) bool) {
		if c.batches {
			for i := range b.Packs {
				if !yield(&b.Packs[i]) {
					return
				}
			}
			return
		}
		for i := range b.Messages {
			if !yield(&b.Messages[i]) {
				return
			}
		}
	}
}

func (c *session) sendTrust(t pki.Trust) error {
	return c.stream.Send(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_TrustBundle{TrustBundle: &syncv1.TrustBundle{Roots: t.Roots}}})
}

// retrust sends a newer trust bundle. A connection that hangs on a root which is not in it any more has to end: one that was
// renewed since comes back at once, and no other.
func (c *session) retrust(t pki.Trust) error {
	if err := c.sendTrust(t); err != nil {
		return err
	}
	if c.server.trusted(c.who, t.Pool) {
		return nil
	}
	c.stale = true
	return c.leave(leaveWithin, leaveGrace)
}

// leave asks the gateway to reconnect at a random moment, and ends the stream later if it does not.
func (c *session) leave(within, grace time.Duration) error {
	after := rand.N(within)
	c.left = time.After(after + grace)
	d := &syncv1.Drain{After: durationpb.New(after)}
	return c.stream.Send(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Drain{Drain: d}})
}

func (c *session) resync(ctx context.Context, reason string) error {
	c.server.cfg.Log.WarnContext(ctx, "gateway asks for the whole set", "group", c.who.Group, "gateway", c.who.Gateway, "reason", clip(reason))
	if !c.resynced.allow(c.server.cfg.Now()) {
		return later("too many resyncs", c.resynced.every)
	}
	c.fanout.Resync()
	return nil
}

// renew issues the next certificate. It works from memory while the database is down: who is revoked is known here.
func (c *session) renew(ctx context.Context, csr []byte) error {
	s := c.server
	if c.stale {
		// Who has the key of a retired root must not come by a certificate of the new one. A good gateway asks again when it
		// has reconnected.
		return nil
	}
	if !c.asked.allow(s.cfg.Now()) {
		return status.Error(codes.ResourceExhausted, "too many certificate requests")
	}
	if err := s.refused(c.who.Gateway); err != nil {
		return err
	}
	key, err := pki.ParseRequest(csr)
	if err != nil {
		return s.answer(ctx, err)
	}
	bounded, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	issued, err := s.issue(bounded, c.who.ID, key)
	switch {
	case errors.Is(err, registry.ErrRevoked), errors.Is(err, registry.ErrKeyInUse), len(issued.Chain) == 0:
		return s.answer(ctx, err)
	case err != nil:
		s.cfg.Log.WarnContext(ctx, "renewal of a certificate could not be noted", "group", c.who.Group, "gateway", c.who.Gateway, "err", err)
	}
	s.leases.renew(c.who.Gateway, issued.NotAfter, s.cfg.Now())
	select {
	case <-c.renewed: // the handler has not read the one before
	default:
	}
	c.renewed <- issued.NotAfter
	return c.stream.Send(&syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Certificate{Certificate: &syncv1.Certificate{Chain: issued.Chain}}})
}
