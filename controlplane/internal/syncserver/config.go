package syncserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/store"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/digest"
)

const (
	// helloTimeout is how long a gateway has to say hello.
	helloTimeout = 10 * time.Second
	// joinTimeout is how long a stream waits for its group to be opened, or for this replica to catch up with it.
	joinTimeout = 10 * time.Second
	// Faults beyond these are cut off; a gateway that cannot run a thousand resources has one problem, not a thousand.
	maxFaults     = 100
	maxFaultBytes = 1 << 10
	// maxHeld bounds what a gateway can say of how long it held an answer back.
	maxHeld = time.Minute
)

// session is one Config stream.
type session struct {
	server   *Server
	who      caller
	stream   syncv1.SyncService_ConfigServer
	registry *registry.Session
	fanout   *fanout.Stream
	// requests and resyncs come from the gateway; each holds one.
	requests chan []byte
	resyncs  chan string
	// renewed tells the handler that the certificate's end has moved.
	renewed chan time.Time
	sent    sent
	batches bool // the gateway takes them

	// Of the sending goroutine.
	asked    throttle
	resynced throttle
	left     <-chan time.Time // set when the gateway was asked to leave
	stale    bool             // what it showed when it connected hangs on a root that is retired
}

// Config implements SyncService.
func (s *Server) Config(stream syncv1.SyncService_ConfigServer) error {
	ctx := stream.Context()
	who := callerOf(ctx)
	cut, stop := s.cfg.Revocations.Watch(who.Gateway)
	defer stop()
	c := &session{
		server: s, who: who, stream: stream, requests: make(chan []byte, 1), resyncs: make(chan string, 1),
		renewed: make(chan time.Time, 1), asked: throttle{every: time.Second, burst: 3},
		resynced: throttle{every: 10 * time.Second, burst: 3},
	}
	// Sending may block for as long as the gateway does not read. The handler waits beside it, and when it returns, grpc
	// ends the stream under the sender.
	done := make(chan error, 1)
	s.senders.Go(func() {
		var err error
		defer func() { done <- err }()
		defer s.recover(ctx, &err)
		err = c.run(ctx)
	})
	expiry := time.NewTimer(who.until.Sub(s.cfg.Now()))
	defer expiry.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-cut:
			s.cfg.Log.InfoContext(ctx, "stream of a revoked gateway cut", "group", who.Group, "gateway", who.Gateway)
			return errRevoked()
		case until := <-c.renewed:
			expiry.Reset(until.Sub(s.cfg.Now()))
		case <-expiry.C:
			return status.Error(codes.Unauthenticated, "the certificate has expired")
		}
	}
}

// run says hello, then sends until the stream ends.
func (c *session) run(ctx context.Context) error {
	hello, err := c.hello()
	if err != nil {
		return err
	}
	c.batches = hello.GetBatches()
	group, release, err := c.server.cfg.Groups.Acquire(ctx, c.who.Group)
	if err != nil {
		return status.Error(codes.Unavailable, "this replica is ending")
	}
	defer release()
	c.registry = c.server.cfg.Registry.Connect(registry.Connection{
		Group: c.who.Group, ID: c.who.Gateway, Version: hello.GetVersion(), PolicyTypes: hello.GetPolicyTypes(),
		Contract: hello.GetContract(), Labels: hello.GetLabels(), Certificate: shown(c.who.chain[0]),
	})
	defer c.registry.Close()
	if c.fanout, err = c.join(ctx, group, hello); err != nil {
		return err
	}
	defer c.fanout.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.server.senders.Go(func() { cancel(c.receive()) })
	err = c.send(ctx)
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return nil // the gateway went away
	}
	return err
}

// shown is what is noted of a certificate.
func shown(c *x509.Certificate) store.Certificate {
	key := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return store.Certificate{SPKIHash: key[:], Serial: hex.EncodeToString(c.SerialNumber.Bytes()), NotAfter: c.NotAfter}
}

// hello waits for the first message. grpc ends Recv when the handler's time is up.
func (c *session) hello() (*syncv1.Hello, error) {
	type first struct {
		msg *syncv1.ConfigRequest
		err error
	}
	got := make(chan first, 1)
	c.server.senders.Go(func() {
		msg, err := c.stream.Recv()
		got <- first{msg, err}
	})
	select {
	case f := <-got:
		if f.err != nil {
			return nil, f.err
		}
		h := f.msg.GetHello()
		if h == nil || !fits(h.GetLabels(), h.GetVersion()) || len(h.GetPolicyTypes()) > 1000 {
			return nil, status.Error(codes.InvalidArgument, "the first message has to be a hello with moderate labels")
		}
		return h, nil
	case <-time.After(helloTimeout):
		return nil, status.Error(codes.DeadlineExceeded, "no hello")
	}
}

func (c *session) join(ctx context.Context, g *fanout.Group, h *syncv1.Hello) (*fanout.Stream, error) {
	at := fanout.Position{Epoch: h.GetEpoch(), Revision: h.GetRevision()}
	if len(h.GetDigest()) == digest.Size {
		at.Digest = [digest.Size]byte(h.GetDigest())
	}
	bounded, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, err := g.Join(bounded, fanout.Member{ID: c.who.Gateway, Labels: h.GetLabels()}, at)
	if err == nil {
		return s, nil
	}
	if errors.Is(err, fanout.ErrAhead) {
		// It runs a revision that is not in the database, or that this replica does not get to see.
		c.registry.Applied(registry.Applied{Epoch: at.Epoch, Revision: at.Revision, Digest: at.Digest[:]})
		c.server.cfg.Ahead(c.who.Group)
		c.server.cfg.Log.ErrorContext(ctx, "a gateway has a later revision than this replica; it keeps it", "group", c.who.Group, "gateway", c.who.Gateway, "revision", at.Revision)
		return nil, status.Error(codes.Unavailable, "this replica is behind the gateway")
	}
	return nil, status.Error(codes.Unavailable, "the group's configuration is not available")
}

// receive takes what the gateway says until the stream ends.
func (c *session) receive() error {
	for {
		msg, err := c.stream.Recv()
		if err != nil {
			return err
		}
		switch m := msg.GetMessage().(type) {
		case *syncv1.ConfigRequest_Ack:
			c.acknowledged(m.Ack)
		case *syncv1.ConfigRequest_Resync:
			select {
			case c.resyncs <- m.Resync.GetReason():
			default: // one is due already
			}
		case *syncv1.ConfigRequest_Trusted:
			if d := m.Trusted.GetDigest(); len(d) == sha256.Size {
				c.registry.Trusts([sha256.Size]byte(d))
			}
		case *syncv1.ConfigRequest_CertificateRequest:
			select {
			case c.requests <- m.CertificateRequest.GetCsr():
			default:
			}
		}
	}
}

// acknowledged notes what the gateway runs, unless it is not what was sent to it.
func (c *session) acknowledged(ack *syncv1.Ack) {
	a := applied(ack)
	set, ok := c.sent.take(a.Epoch, a.Revision)
	if ok && !bytes.Equal(set.to.Digest[:], a.Digest) {
		c.server.cfg.Log.Error("gateway acknowledges another digest than it was sent", "group", c.who.Group, "gateway", c.who.Gateway, "revision", a.Revision)
		return
	}
	c.registry.Applied(a)
	if ok && !set.committedAt.IsZero() {
		held := min(max(ack.GetHeld().AsDuration(), 0), maxHeld)
		c.server.cfg.Propagated(c.who.Group, max(c.server.cfg.Now().Sub(set.committedAt)-held, 0))
	}
}

// maxUnacknowledged bounds what is remembered of a stream; a gateway leaves out revisions when it falls behind.
const maxUnacknowledged = 64

// sent remembers the change sets that were not acknowledged yet.
type sent struct {
	mu   sync.Mutex // guards sets
	sets []sentSet
}

type sentSet struct {
	to          fanout.Position
	committedAt time.Time
}

func (s *sent) add(b *fanout.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sets) == maxUnacknowledged {
		s.sets = append(s.sets[:0], s.sets[1:]...)
	}
	s.sets = append(s.sets, sentSet{to: b.To, committedAt: b.CommittedAt})
}

// take returns the change set that led to the revision, and forgets it and those before.
func (s *sent) take(epoch uint64, revision int64) (sentSet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, set := range s.sets {
		if set.to.Epoch == epoch && set.to.Revision == revision {
			s.sets = append(s.sets[:0], s.sets[i+1:]...)
			return set, true
		}
	}
	return sentSet{}, false
}

func applied(a *syncv1.Ack) registry.Applied {
	out := registry.Applied{Epoch: a.GetEpoch(), Revision: a.GetRevision(), Digest: a.GetDigest()}
	if len(out.Digest) > digest.Size {
		out.Digest = nil
	}
	for _, f := range a.GetFaults()[:min(maxFaults, len(a.GetFaults()))] {
		out.Faults = append(out.Faults, store.Fault{
			Kind: clip(f.GetKind()), UID: clip(f.GetUid()), Name: clip(f.GetName()), Reason: clip(f.GetReason()),
		})
	}
	return out
}

func clip(s string) string { return s[:min(len(s), maxFaultBytes)] }

// jitter returns between 0.9 and 1.1 of d.
func jitter(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }

// throttle lets a few events through at once and then one per period.
type throttle struct {
	every time.Duration
	burst int
	next  time.Time // when the bucket would be full
}

func (t *throttle) allow(now time.Time) bool {
	if t.next.Before(now) {
		t.next = now
	}
	if t.next.Sub(now) >= time.Duration(t.burst)*t.every {
		return false
	}
	t.next = t.next.Add(t.every)
	return true
}
