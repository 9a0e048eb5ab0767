package syncclient

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/state"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/run"
)

// errDrained ends a session that the control plane asked us to end.
var errDrained = errors.New("the control plane asked to reconnect")

// renewRetry bounds how long a renewal waits for its answer before it is asked again.
const renewRetry = 10 * time.Second

// session is one connection with its streams.
type session struct {
	client  *Client
	address string
	stream  syncv1.SyncService_ConfigClient
	// heard says that the control plane has answered, committed that it has sent a good set. Of receive, and of the
	// connecting goroutine afterwards.
	heard, committed bool
	// resetting says that the change which comes is the whole set.
	resetting bool
	// resumed says that it goes on from a set, which the control plane has a look at before it answers.
	resumed bool

	sending sync.Mutex // held while a message is sent

	// drained ends the session; set by the control plane.
	drained chan time.Duration
	// answers carries certificates to the renewing goroutine.
	answers chan *syncv1.Certificate
}

// run holds the streams until one of them ends.
func (s *session) run(ctx context.Context) error {
	conn, err := s.client.dial(s.address, mtls.ClientTLS(s.client.tls()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	service := syncv1.NewSyncServiceClient(conn)
	if s.stream, err = service.Config(ctx, grpc.ForceCodecV2(newCodec())); err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	s.drained, s.answers = make(chan time.Duration, 1), make(chan *syncv1.Certificate, 1)
	if err := s.hello(); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	return run.Group(ctx, s.receive, s.acknowledge, s.renew, s.leave, s.confirm,
		func(ctx context.Context) error { return s.report(ctx, service) },
		func(ctx context.Context) error {
			<-ctx.Done()
			cancel() // ends Recv, whoever ended the session
			return nil
		})
}

func (s *session) hello() error {
	set, cfg := s.client.folded(), s.client.cfg
	s.resumed = set.Epoch != 0
	return s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Hello{Hello: &syncv1.Hello{
		Version: cfg.Version, PolicyTypes: cfg.PolicyTypes, Contract: cfg.Contract, Labels: cfg.Labels,
		Epoch: set.Epoch, Revision: set.Revision, Digest: set.Digest[:], Batches: true,
	}}})
}

func (s *session) send(m *syncv1.ConfigRequest) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.stream.Send(m)
}

// receive folds what comes. It is the only user of the folder while the session lives.
func (s *session) receive(ctx context.Context) error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if !s.heard {
			s.heard = true
			s.client.update(func(st *Status) { st.Connected, st.Address, st.Connects = true, s.address, st.Connects+1 })
			s.client.accepted(s.resumed)
		}
		if err := s.take(ctx, m); err != nil {
			return err
		}
	}
}

// take does what a message, or each message of a batch, is about.
func (s *session) take(ctx context.Context, m *syncv1.ConfigResponse) error {
	b := m.GetBatch()
	if b == nil {
		return s.one(ctx, m)
	}
	for _, m := range b.GetMessages() {
		if err := s.one(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) one(ctx context.Context, m *syncv1.ConfigResponse) error {
	switch m := m.GetMessage().(type) {
	case *syncv1.ConfigResponse_Begin:
		s.resetting = m.Begin.GetReset_()
	case *syncv1.ConfigResponse_Certificate:
		select {
		case s.answers <- m.Certificate:
		default: // nobody asked
		}
	case *syncv1.ConfigResponse_TrustBundle:
		if err := s.trust(m.TrustBundle); err != nil {
			return err
		}
	case *syncv1.ConfigResponse_Drain:
		select {
		case s.drained <- m.Drain.GetAfter().AsDuration():
		default:
		}
	}
	return s.fold(ctx, m)
}

func (s *session) fold(ctx context.Context, m *syncv1.ConfigResponse) error {
	c := s.client
	before := c.folded()
	set, err := c.take(m)
	var misfit *state.MisfitError
	switch {
	case errors.As(err, &misfit):
		return s.misfit(ctx, misfit)
	case errors.Is(err, state.ErrRewound):
		c.update(func(st *Status) { st.Rewound++ })
		c.cfg.Log.ErrorContext(ctx, "an older revision was refused; the newer one stays in force", "revision", c.folded().Revision)
		return err
	case err != nil:
		return err
	}
	if set != nil {
		s.committed = true
		c.noteEpoch(ctx, before, set)
		c.misfits = misfits{}
		c.update(func(st *Status) {
			st.Distrusted, st.LastHeard = false, time.Now()
			if s.resetting {
				st.Resets++
			}
		})
	}
	return nil
}

// noteEpoch says so when the control plane begins its history anew: revisions that were in force may be gone.
func (c *Client) noteEpoch(ctx context.Context, before, now *state.Set) {
	if before.Epoch == 0 || before.Epoch == now.Epoch {
		return
	}
	c.update(func(st *Status) { st.Epochs++ })
	c.cfg.Log.WarnContext(ctx, "the control plane was restored: its history begins anew, and this configuration may be an older one", "revision", now.Revision, "was", before.Revision)
}

// take folds a message and offers the set that it completes.
func (c *Client) take(m *syncv1.ConfigResponse) (*state.Set, error) {
	c.folding.Lock()
	defer c.folding.Unlock()
	set, err := c.folder.Fold(m)
	if set != nil {
		c.confirmed()
		c.offer(set)
	}
	return set, err
}

// folded returns the last set that was folded or started from.
func (c *Client) folded() *state.Set {
	c.folding.Lock()
	defer c.folding.Unlock()
	return c.folder.Set()
}

// acknowledge says what is in force, now and whenever that changes.
func (s *session) acknowledge(ctx context.Context) error {
	var last force
	for {
		now := s.client.inForce()
		if now.set != nil && (now.set != last.set || !slices.Equal(now.faults, last.faults)) {
			if !hold(ctx, now) {
				return nil
			}
			now = s.client.inForce() // it may have moved on
			last = now
			if err := s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Ack{Ack: now.ack()}}); err != nil {
				return fmt.Errorf("acknowledge: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-now.changed:
		}
	}
}

// force is what is in force.
type force struct {
	set     *state.Set // nil: nothing yet
	faults  []Fault
	since   time.Time
	changed <-chan struct{} // closed when it is something else
}

func (c *Client) inForce() force {
	c.mu.Lock()
	defer c.mu.Unlock()
	return force{c.applied, c.status.Faults, c.status.LastApplied, c.acked}
}

func (f force) ack() *syncv1.Ack {
	a := &syncv1.Ack{Epoch: f.set.Epoch, Revision: f.set.Revision, Digest: f.set.Digest[:], Held: durationpb.New(time.Since(f.since))}
	for _, f := range f.faults {
		a.Faults = append(a.Faults, &syncv1.Fault{Kind: f.Kind, Uid: f.UID, Name: f.Name, Reason: f.Reason})
	}
	return a
}

// maxHold bounds how long an answer is held back, whatever the control plane says.
const maxHold = 5 * time.Second

// hold waits for as long as the answer is to be held back; false: the session has ended.
func hold(ctx context.Context, f force) bool {
	within := min(f.set.AcknowledgeWithin, maxHold)
	if within <= 1 || len(f.faults) > 0 {
		return true
	}
	t := time.NewTimer(within/2 + rand.N(within/2))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// renew gets the next certificate in time, over the stream and without disturbing it.
func (s *session) renew(ctx context.Context) error {
	c := s.client
	for {
		timer := time.NewTimer(time.Until(c.identity.Load().renew))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		key, err := newKey()
		if err != nil {
			return err
		}
		if err := s.askCertificate(key); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case answer := <-s.answers:
			if err := c.renewed(key, answer); err != nil {
				return err
			}
		case <-time.After(renewRetry):
			c.cfg.Log.WarnContext(ctx, "the certificate was not renewed; asking again", "expires", c.identity.Load().leaf().NotAfter)
		}
	}
}

func (s *session) askCertificate(key crypto.Signer) error {
	csr, err := newRequest(key)
	if err != nil {
		return err
	}
	select {
	case <-s.answers: // late, of a key that is gone
	default:
	}
	r := &syncv1.CertificateRequest{Csr: csr}
	if err := s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_CertificateRequest{CertificateRequest: r}}); err != nil {
		return fmt.Errorf("ask for a certificate: %w", err)
	}
	return nil
}

// leave ends the session when the control plane has asked for it.
func (s *session) leave(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case after := <-s.drained:
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(max(after, 0), time.Minute)):
			return errDrained
		}
	}
}
