package syncclient_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/syncclient"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/mtls/mtlstest"
)

const (
	domain    = "kw.test"
	gatewayID = "spiffe://kw.test/group/pay/gateway/g1"
	replicaID = "spiffe://kw.test/controlplane/r1"
)

// control is a control plane that does as the test says.
type control struct {
	syncv1.UnimplementedEnrolmentServiceServer
	syncv1.UnimplementedSyncServiceServer

	t         *testing.T
	authority *mtlstest.Authority
	ttl       time.Duration

	mu       sync.Mutex
	keys     []string // public keys enrolled, in order
	tokens   []string
	renewals int // over the stream
	expired  int // after expiry
	opened   int
	refuse   error // answer of Enrol and Renew
	streams  map[*stream]bool
	// edit may change what is sent.
	edit func([]*syncv1.ConfigResponse) []*syncv1.ConfigResponse

	src     *statetest.Source
	hellos  chan *syncv1.Hello
	acks    chan *syncv1.Ack
	resyncs chan string
	reports chan *syncv1.ReportRequest
	trusted chan []byte
}

type stream struct {
	out chan []*syncv1.ConfigResponse
	end chan error
}

func newControl(t *testing.T) *control {
	t.Helper()
	return &control{
		t: t, authority: mtlstest.New(t, time.Now), ttl: time.Hour, src: statetest.NewSource(1), streams: map[*stream]bool{},
		hellos: make(chan *syncv1.Hello, 100), acks: make(chan *syncv1.Ack, 1000), resyncs: make(chan string, 100),
		reports: make(chan *syncv1.ReportRequest, 100), trusted: make(chan []byte, 100),
	}
}

// listen serves until the returned stop is called and returns how to connect.
func (c *control) listen(cert *tls.Certificate) (dial func(context.Context, string) (net.Conn, error), stop func()) {
	l := bufconn.Listen(1 << 20)
	cfg := mtls.Config{TrustDomain: domain, Roots: c.authority.Pool, Certificate: func() (*tls.Certificate, error) { return cert, nil }}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(mtls.ServerTLS(cfg))))
	syncv1.RegisterEnrolmentServiceServer(g, c)
	syncv1.RegisterSyncServiceServer(g, c)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	return func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }, func() { g.Stop(); <-done }
}

func (c *control) certificate(csr []byte) ([][]byte, string) {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil || r.CheckSignature() != nil {
		c.t.Error("bad certificate request")
	}
	leaf := mtlstest.Leaf{URIs: []string{gatewayID}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, TTL: c.ttl, Public: r.PublicKey}
	return c.authority.Issue(c.t, leaf).Certificate[:2], string(r.RawSubjectPublicKeyInfo)
}

func (c *control) Enrol(_ context.Context, r *syncv1.EnrolRequest) (*syncv1.EnrolResponse, error) {
	chain, key := c.certificate(r.GetCsr())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = append(c.keys, key)
	c.tokens = append(c.tokens, r.GetJoinToken()+r.GetServiceAccountJwt())
	if c.refuse != nil {
		return nil, c.refuse
	}
	return &syncv1.EnrolResponse{Chain: chain, TrustBundle: [][]byte{c.authority.Root.Raw}}, nil
}

func (c *control) Renew(_ context.Context, r *syncv1.RenewRequest) (*syncv1.EnrolResponse, error) {
	old, err := x509.ParseCertificate(r.GetCertificate())
	if err != nil {
		return nil, err
	}
	if err := old.CheckSignature(x509.ECDSAWithSHA256, mtls.RenewalMessage(r.GetCertificate(), r.GetCsr(), r.GetAt().AsTime()), r.GetSignature()); err != nil {
		c.t.Errorf("signature of a renewal: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired++
	if c.refuse != nil {
		return nil, c.refuse
	}
	chain, _ := c.certificate(r.GetCsr())
	return &syncv1.EnrolResponse{Chain: chain, TrustBundle: [][]byte{c.authority.Root.Raw}}, nil
}

func (c *control) Config(s syncv1.SyncService_ConfigServer) error {
	p, _ := peer.FromContext(s.Context())
	if _, err := mtls.PeerGateway(p.AuthInfo.(credentials.TLSInfo).State, c.authority.Pool(), domain, time.Now()); err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	first, err := s.Recv()
	if err != nil {
		return err
	}
	me := &stream{out: make(chan []*syncv1.ConfigResponse, 100), end: make(chan error, 1)}
	me.out <- []*syncv1.ConfigResponse{{Message: &syncv1.ConfigResponse_TrustBundle{TrustBundle: &syncv1.TrustBundle{Roots: [][]byte{c.authority.Root.Raw}}}}}
	c.mu.Lock()
	c.opened++
	c.streams[me] = true
	h := first.GetHello()
	if h.GetEpoch() != c.src.Epoch || h.GetRevision() != c.src.Revision {
		me.out <- c.edited(c.src.Reset())
	}
	c.mu.Unlock()
	c.hellos <- h
	defer func() { c.mu.Lock(); delete(c.streams, me); c.mu.Unlock() }()
	go c.listenTo(s, me)
	for {
		select {
		case err := <-me.end:
			return err
		case <-s.Context().Done():
			return s.Context().Err()
		case ms := <-me.out:
			for _, m := range batched(ms, h.GetBatches()) {
				if err := s.Send(m); err != nil {
					return err
				}
			}
		}
	}
}

// batched puts all but the first message into a batch, as far as the gateway takes them.
func batched(ms []*syncv1.ConfigResponse, takes bool) []*syncv1.ConfigResponse {
	if !takes || len(ms) < 3 {
		return ms
	}
	return []*syncv1.ConfigResponse{ms[0], {Message: &syncv1.ConfigResponse_Batch{Batch: &syncv1.Batch{Messages: ms[1:]}}}}
}

func (c *control) listenTo(s syncv1.SyncService_ConfigServer, me *stream) {
	for {
		m, err := s.Recv()
		if err != nil {
			return
		}
		switch m := m.GetMessage().(type) {
		case *syncv1.ConfigRequest_Ack:
			c.acks <- m.Ack
		case *syncv1.ConfigRequest_Trusted:
			c.trusted <- m.Trusted.GetDigest()
		case *syncv1.ConfigRequest_Resync:
			c.mu.Lock()
			me.out <- c.edited(c.src.Reset())
			c.mu.Unlock()
			c.resyncs <- m.Resync.GetReason()
		case *syncv1.ConfigRequest_CertificateRequest:
			chain, _ := c.certificate(m.CertificateRequest.GetCsr())
			c.mu.Lock()
			c.renewals++
			c.mu.Unlock()
			me.out <- []*syncv1.ConfigResponse{{Message: &syncv1.ConfigResponse_Certificate{Certificate: &syncv1.Certificate{Chain: chain}}}}
		}
	}
}

func (c *control) Report(s syncv1.SyncService_ReportServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		c.reports <- r
	}
}

func (c *control) edited(ms []*syncv1.ConfigResponse) []*syncv1.ConfigResponse {
	if c.edit != nil {
		return c.edit(ms)
	}
	return ms
}

// change commits a change and sends it to all streams.
func (c *control) change(upserts ...statetest.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms := c.edited(c.src.Change(upserts, nil))
	for s := range c.streams {
		s.out <- ms
	}
}

// send sends a message to all streams.
func (c *control) send(ms ...*syncv1.ConfigResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.streams {
		s.out <- ms
	}
}

// cut ends all streams.
func (c *control) cut(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.streams {
		s.end <- err
	}
}

func (c *control) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *control) count(p *int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *p
}

func (c *control) token() string {
	return "kwj_000000000000_00000000000000000000000000000000_" + mtls.SPKIOf(c.authority.Root).String()
}

// world is a control plane with a gateway.
type world struct {
	*control
	client  *syncclient.Client
	applied chan *state.Set
	end     func()
}

func config(c *control, dial func(context.Context, string) (net.Conn, error)) syncclient.Config {
	return syncclient.Config{
		Addresses: []string{"cp.test:7444"}, TrustDomain: domain, JoinToken: c.token(), Version: "test", PolicyTypes: []string{"acl"}, Contract: 3, Dial: dial,
		Apply: func(context.Context, *state.Set) []syncclient.Fault { return nil }, Log: slog.New(slog.DiscardHandler),
	}
}

// start runs a client until the end of the test. It must be called inside a synctest bubble, whose clock everything uses.
func start(t *testing.T, c *control, edit func(*syncclient.Config)) *world {
	t.Helper()
	dial, stop := c.listen(c.authority.ControlPlane(t, replicaID))
	w := &world{control: c, applied: make(chan *state.Set, 1000)}
	cfg := config(c, dial)
	cfg.Apply = func(_ context.Context, s *state.Set) []syncclient.Fault {
		w.applied <- s
		return nil
	}
	if edit != nil {
		edit(&cfg)
	}
	client, err := syncclient.New(cfg)
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	w.client = client
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	w.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		stop()
	})
	return w
}
