package syncserver_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/fanout/fanouttest"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/pki/pkitest"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/registry/registrytest"
	"keyward.dev/controlplane/internal/syncserver"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/mtls"
)

const domain = "kw.test"

// clock is the real one, moved.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// world is one replica with two groups.
type world struct {
	t           testing.TB
	memory      *registrytest.Memory
	clock       *clock
	ca          *pki.CA
	revocations *pki.Revocations
	registry    *registry.Registry
	sources     fanouttest.ByGroup
	dial        func(context.Context, string) (net.Conn, error)
	stop        func() // drains and waits
	propagated  chan time.Duration
	ahead       chan string
	used        chan usesOf
	load        func() (sending, waiting int, refused int64)
}

// usesOf are uses of credentials that were taken for a group's.
type usesOf struct {
	group string
	uses  []*syncv1.CredentialUse
}

type options struct {
	memory      *registrytest.Memory
	authorities *pkitest.Authorities
	limits      fanout.Limits
	ttl         time.Duration
	streamAge   time.Duration
	fullSets    int
	drainTime   time.Duration // 100 ms if zero: most gateways here do not leave
	kubernetes  attest.Attestor
	inMemory    bool // bufconn instead of loopback
	replica     string
}

func newWorld(t testing.TB, o options) *world {
	t.Helper()
	if o.memory == nil {
		o.memory = registrytest.New()
	}
	if o.authorities == nil {
		o.authorities = &pkitest.Authorities{}
	}
	if o.drainTime == 0 {
		o.drainTime = 100 * time.Millisecond
	}
	if o.replica == "" {
		o.replica = "r1"
	}
	log := slog.New(slog.DiscardHandler)
	w := &world{t: t, memory: o.memory, clock: &clock{}, sources: fanouttest.ByGroup{"a": fanouttest.NewSource(1), "b": fanouttest.NewSource(2)}}
	w.propagated, w.ahead, w.used = make(chan time.Duration, 1000), make(chan string, 1000), make(chan usesOf, 1000)
	var err error
	w.ca, err = pki.Open(t.Context(), pki.Config{
		Authorities: o.authorities, Sealer: pkitest.Sealer{}, TrustDomain: domain, Replica: o.replica, GatewayTTL: o.ttl,
		IntermediateTTL: 365 * 24 * time.Hour, Now: w.clock.Now, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.revocations = pki.NewRevocations(w.memory.RevokedGateways)
	if err := w.revocations.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.registry = registry.New(registry.Config{
		Store: w.memory, Notes: w.memory, Changes: w.memory, Revocations: w.revocations, Rollouts: w.memory, Skills: w.memory, Replica: o.replica, Now: w.clock.Now, Log: log,
	})
	hub := fanout.NewHub(w.sources, o.limits, log)
	server := syncserver.New(syncserver.Config{
		CA: w.ca, Revocations: w.revocations, Enrolments: w.memory, Groups: hub, Registry: w.registry,
		JoinTokens: attest.NewJoinTokens(w.memory, w.clock.Now), Kubernetes: o.kubernetes, TrustDomain: domain, StreamAge: o.streamAge, FullSets: o.fullSets, DrainTime: o.drainTime,
		Propagated: func(_ string, took time.Duration) { w.propagated <- took }, Ahead: func(group string) { w.ahead <- group },
		Used: func(group string, uses []*syncv1.CredentialUse) { w.used <- usesOf{group, uses} }, Now: w.clock.Now, Log: log,
	})
	w.load = server.Load
	w.serve(server, hub, o.inMemory)
	return w
}

func (w *world) serve(s *syncserver.Server, hub *fanout.Hub, inMemory bool) {
	var l net.Listener
	if inMemory {
		b := bufconn.Listen(1 << 20)
		l, w.dial = b, func(ctx context.Context, _ string) (net.Conn, error) { return b.DialContext(ctx) }
	} else {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			w.t.Fatal(err)
		}
		address := l.Addr().String()
		w.dial = func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	tlsConfig := mtls.ServerTLS(mtls.Config{TrustDomain: domain, Roots: w.ca.Roots, Certificate: w.ca.ServerCertificate, Now: w.clock.Now})
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	wg.Go(func() { _ = w.registry.Run(ctx) })
	wg.Go(func() {
		if err := s.Serve(ctx, l, tlsConfig); err != nil {
			w.t.Errorf("Serve = %v", err)
		}
	})
	w.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// connect dials with the settings until the end of the test.
func (w *world) connect(t *tls.Config, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(t)), grpc.WithContextDialer(w.dial)}, opts...)
	conn, err := grpc.NewClient("passthrough:///cp", opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) config(cert *tls.Certificate) mtls.Config {
	return mtls.Config{TrustDomain: domain, Roots: w.ca.Roots, Now: w.clock.Now, Certificate: func() (*tls.Certificate, error) { return cert, nil }}
}

func (w *world) token(group string, uses int32, ttl time.Duration) string {
	w.t.Helper()
	_, text, err := w.registry.CreateJoinToken(w.t.Context(), registry.NewToken{Group: group, Uses: uses, TTL: ttl, Pin: w.ca.Trust().Pin})
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func request(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// gateway is an enrolled gateway.
type gateway struct {
	w    *world
	id   mtls.ID
	cert *tls.Certificate
	// single says that it takes no batches, as older ones.
	single bool
}

func (w *world) tryEnrol(key crypto.Signer, token string) (*gateway, error) {
	w.t.Helper()
	conn := w.connect(mtls.EnrolTLS(mtls.Config{TrustDomain: domain, Now: w.clock.Now}, w.ca.Trust().Pin))
	req := &syncv1.EnrolRequest{Csr: request(w.t, key), Attestation: &syncv1.EnrolRequest_JoinToken{JoinToken: token}}
	res, err := syncv1.NewEnrolmentServiceClient(conn).Enrol(w.t.Context(), req)
	if err != nil {
		return nil, err
	}
	return w.gateway(key, res.GetChain()), nil
}

func (w *world) gateway(key crypto.Signer, chain [][]byte) *gateway {
	w.t.Helper()
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := mtls.CertificateID(leaf)
	if err != nil {
		w.t.Fatal(err)
	}
	return &gateway{w: w, id: id, cert: &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}}
}

// enrol enrols a new gateway in the group.
func (w *world) enrol(group string) *gateway {
	w.t.Helper()
	g, err := w.tryEnrol(newKey(w.t), w.token(group, 1, time.Hour))
	if err != nil {
		w.t.Fatalf("enrol: %v", err)
	}
	return g
}

func (g *gateway) renew() (*gateway, error) {
	g.w.t.Helper()
	key := newKey(g.w.t)
	req := &syncv1.RenewRequest{Certificate: g.cert.Certificate[0], Csr: request(g.w.t, key), At: timestamppb.New(g.w.clock.Now())}
	sum := sha256.Sum256(mtls.RenewalMessage(req.GetCertificate(), req.GetCsr(), req.GetAt().AsTime()))
	var err error
	if req.Signature, err = g.cert.PrivateKey.(crypto.Signer).Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
		g.w.t.Fatal(err)
	}
	conn := g.w.connect(mtls.RenewTLS(g.w.config(nil)))
	res, err := syncv1.NewEnrolmentServiceClient(conn).Renew(g.w.t.Context(), req)
	if err != nil {
		return nil, err
	}
	return g.w.gateway(key, res.GetChain()), nil
}

// stream is a Config stream with what has been folded from it.
type stream struct {
	t       testing.TB
	rpc     syncv1.SyncService_ConfigClient
	at      fanout.Position
	records map[string][]byte
	resets  int
	// other are messages that are no part of a change set.
	other []*syncv1.ConfigResponse
	bytes int
	// batches is how many came.
	batches int
}

func (g *gateway) stream(at fanout.Position, opts ...grpc.DialOption) *stream {
	g.w.t.Helper()
	s, err := g.tryStream(at, opts...)
	if err != nil {
		g.w.t.Fatalf("open stream: %v", err)
	}
	return s
}

func (g *gateway) tryStream(at fanout.Position, opts ...grpc.DialOption) (*stream, error) {
	conn := g.w.connect(mtls.ClientTLS(g.w.config(g.cert)), opts...)
	rpc, err := syncv1.NewSyncServiceClient(conn).Config(g.w.t.Context())
	if err != nil {
		return nil, err
	}
	hello := &syncv1.Hello{Version: "t", PolicyTypes: []string{"acl"}, Contract: 3, Epoch: at.Epoch, Revision: at.Revision, Digest: at.Digest[:], Batches: !g.single}
	err = rpc.Send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Hello{Hello: hello}})
	if errors.Is(err, io.EOF) { // the server has ended it already, and says why to who reads
		_, err = rpc.Recv()
	}
	return &stream{t: g.w.t, rpc: rpc, at: at, records: map[string][]byte{}}, err
}

func (s *stream) send(m *syncv1.ConfigRequest) {
	s.t.Helper()
	if err := s.rpc.Send(m); err != nil {
		s.t.Fatal(err)
	}
}

// next folds one message, or one batch of them.
func (s *stream) next() error {
	m, err := s.rpc.Recv()
	if err != nil {
		return err
	}
	if b := m.GetBatch(); b != nil {
		s.batches++
		for _, m := range b.GetMessages() {
			s.fold(m)
		}
		return nil
	}
	s.fold(m)
	return nil
}

func (s *stream) fold(m *syncv1.ConfigResponse) {
	switch m := m.GetMessage().(type) {
	case *syncv1.ConfigResponse_Begin:
		if m.Begin.GetReset_() {
			s.records = map[string][]byte{}
			s.resets++
		} else if m.Begin.GetFromRevision() != s.at.Revision {
			s.t.Errorf("a change from %d onto %d", m.Begin.GetFromRevision(), s.at.Revision)
		}
	case *syncv1.ConfigResponse_Frame:
		f := m.Frame
		s.bytes += len(f.GetBytes())
		if f.GetRemoved() {
			delete(s.records, f.GetUid())
		} else {
			s.records[f.GetUid()] = append(s.records[f.GetUid()][:f.GetOffset()], f.GetBytes()...)
		}
	case *syncv1.ConfigResponse_Commit:
		s.at.Epoch, s.at.Revision = m.Commit.GetEpoch(), m.Commit.GetRevision()
		s.at.Digest = [digest.Size]byte(m.Commit.GetDigest())
		var d digest.Set
		for uid, b := range s.records {
			d.Add("routes", uid, b)
		}
		if sum := d.Sum(); s.resets > 0 && !bytes.Equal(sum[:], m.Commit.GetDigest()) {
			s.t.Errorf("digest of revision %d does not match", s.at.Revision)
		}
	default:
		s.other = append(s.other, &syncv1.ConfigResponse{Message: m})
	}
}

func (s *stream) until(revision int64) {
	s.t.Helper()
	for s.at.Revision < revision {
		if err := s.next(); err != nil {
			s.t.Fatalf("at revision %d, before %d: %v", s.at.Revision, revision, err)
		}
	}
}

// end folds until the stream ends.
func (s *stream) end() error {
	for {
		if err := s.next(); err != nil {
			return err
		}
	}
}
