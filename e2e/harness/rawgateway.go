package harness

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/shared/mtls"
)

// TrustDomain is the one installations have unless a test says otherwise.
const TrustDomain = "keyward.local"

// Identity is what enrolment gives: a test that has one speaks to the sync port itself, as a gateway of evil intent may.
type Identity struct {
	Key   *ecdsa.PrivateKey
	Chain [][]byte
	Roots [][]byte
}

// NewKey makes a key for an identity.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Request makes the certificate request of a key.
func Request(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// Pin is the hash of the root's public key that a join token carries.
func Pin(joinToken string) string { return joinToken[strings.LastIndexByte(joinToken, '_')+1:] }

// Enrol asks the first replica for an identity; the pin is what a join token carries.
func (c *Cluster) Enrol(pin string, key *ecdsa.PrivateKey, req *syncv1.EnrolRequest) (*Identity, error) {
	c.T.Helper()
	spki, err := mtls.ParseSPKI(pin)
	if err != nil {
		c.T.Fatal(err)
	}
	req.Csr = Request(c.T, key)
	conn := c.dialSync(mtls.EnrolTLS(mtls.Config{TrustDomain: TrustDomain}, spki), nil)
	resp, err := syncv1.NewEnrolmentServiceClient(conn).Enrol(c.T.Context(), req)
	if err != nil {
		return nil, err
	}
	return &Identity{Key: key, Chain: resp.GetChain(), Roots: resp.GetTrustBundle()}, nil
}

// Join enrols with a fresh key and a join token.
func (c *Cluster) Join(joinToken string) *Identity {
	c.T.Helper()
	id, err := c.Enrol(Pin(joinToken), NewKey(c.T), &syncv1.EnrolRequest{
		Attestation: &syncv1.EnrolRequest_JoinToken{JoinToken: joinToken},
	})
	if err != nil {
		c.T.Fatalf("enrol: %v", err)
	}
	return id
}

// Renew asks for another certificate as a gateway does that was away for too long.
func (c *Cluster) Renew(id *Identity) (*Identity, error) {
	c.T.Helper()
	key := NewKey(c.T)
	csr, at := Request(c.T, key), time.Now()
	sum := sha256.Sum256(mtls.RenewalMessage(id.Chain[0], csr, at))
	signature, err := ecdsa.SignASN1(rand.Reader, id.Key, sum[:])
	if err != nil {
		c.T.Fatal(err)
	}
	conn := c.dialSync(mtls.RenewTLS(id.config()), nil)
	resp, err := syncv1.NewEnrolmentServiceClient(conn).Renew(c.T.Context(), &syncv1.RenewRequest{
		Certificate: id.Chain[0], Csr: csr, Signature: signature, At: timestamppb.New(at),
	})
	if err != nil {
		return nil, err
	}
	return &Identity{Key: key, Chain: resp.GetChain(), Roots: resp.GetTrustBundle()}, nil
}

// Leaf is the certificate.
func (id *Identity) Leaf(t testing.TB) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(id.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// ID is who the certificate says it is.
func (id *Identity) ID(t testing.TB) mtls.ID {
	t.Helper()
	known, err := mtls.CertificateID(id.Leaf(t))
	if err != nil {
		t.Fatal(err)
	}
	return known
}

func (id *Identity) config() mtls.Config {
	pool := x509.NewCertPool()
	for _, der := range id.Roots {
		if root, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(root)
		}
	}
	return mtls.Config{
		TrustDomain: TrustDomain,
		Roots:       func() *x509.CertPool { return pool },
		Certificate: func() (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: id.Chain, PrivateKey: id.Key}, nil
		},
	}
}

// Received is every byte that a connection delivered, after decryption.
type Received struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

// Contains says whether the bytes hold a text.
func (r *Received) Contains(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Contains(r.bytes.Bytes(), []byte(text))
}

// Len is how many bytes there are.
func (r *Received) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.Len()
}

// Dial opens a connection to the sync port of the first replica as the identity.
func (c *Cluster) Dial(id *Identity) (*grpc.ClientConn, *Received) {
	c.T.Helper()
	received := &Received{}
	return c.dialSync(mtls.ClientTLS(id.config()), received), received
}

func (c *Cluster) dialSync(t *tls.Config, received *Received) *grpc.ClientConn {
	c.T.Helper()
	conn, err := grpc.NewClient(c.running().Sync, grpc.WithTransportCredentials(recording{credentials.NewTLS(t), received}))
	if err != nil {
		c.T.Fatal(err)
	}
	c.T.Cleanup(func() { conn.Close() })
	return conn
}

// recording keeps what comes out of TLS.
type recording struct {
	credentials.TransportCredentials
	into *Received
}

// ClientHandshake does the handshake and puts the recorder around its connection.
func (r recording) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := r.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil || r.into == nil {
		return conn, info, err
	}
	return recordedConn{conn, r.into}, info, nil
}

// Clone copies the credentials; what is received still goes to the same place.
func (r recording) Clone() credentials.TransportCredentials {
	return recording{r.TransportCredentials.Clone(), r.into}
}

type recordedConn struct {
	net.Conn
	into *Received
}

// Read reads and records.
func (c recordedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.into.mu.Lock()
	c.into.bytes.Write(p[:n])
	c.into.mu.Unlock()
	return n, err
}

// Stream is an open Config stream; what it delivers is kept.
type Stream struct {
	client grpc.BidiStreamingClient[syncv1.ConfigRequest, syncv1.ConfigResponse]
	// Done is closed when the stream has ended; Err then says how.
	Done chan struct{}

	mu       sync.Mutex
	messages []*syncv1.ConfigResponse // guarded by mu
	err      error                    // guarded by mu
	ended    time.Time                // guarded by mu
}

// OpenStream says hello as an identity and reads until the stream ends. It acknowledges nothing.
func (c *Cluster) OpenStream(conn *grpc.ClientConn) *Stream {
	c.T.Helper()
	ctx, cancel := context.WithCancel(c.T.Context())
	c.T.Cleanup(cancel)
	client, err := syncv1.NewSyncServiceClient(conn).Config(ctx)
	s := &Stream{client: client, Done: make(chan struct{})}
	if err != nil {
		s.err, s.ended = err, time.Now()
		close(s.Done)
		return s
	}
	s.Send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Hello{Hello: &syncv1.Hello{Version: "test"}}})
	go s.read()
	return s
}

// Send sends a message; what the control plane makes of it shows in what comes back.
func (s *Stream) Send(m *syncv1.ConfigRequest) { _ = s.client.Send(m) }

func (s *Stream) read() {
	defer close(s.Done)
	for {
		m, err := s.client.Recv()
		s.mu.Lock()
		if err != nil {
			s.err, s.ended = err, time.Now()
			s.mu.Unlock()
			return
		}
		s.messages = append(s.messages, m)
		s.mu.Unlock()
	}
}

// Messages are those received so far.
func (s *Stream) Messages() []*syncv1.ConfigResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*syncv1.ConfigResponse(nil), s.messages...)
}

// Err is how the stream ended and when; nil while it lives.
func (s *Stream) Err() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended, s.err
}

// Revision is that of the last commit received.
func (s *Stream) Revision() int64 {
	var revision int64
	for _, m := range s.Messages() {
		if commit := m.GetCommit(); commit != nil {
			revision = commit.GetRevision()
		}
	}
	return revision
}

// OpenSilentStream says hello as an identity and never reads. What the control plane has to say fills the windows of the
// connection.
func (c *Cluster) OpenSilentStream(conn *grpc.ClientConn) {
	c.T.Helper()
	ctx, cancel := context.WithCancel(c.T.Context())
	c.T.Cleanup(cancel)
	client, err := syncv1.NewSyncServiceClient(conn).Config(ctx)
	if err == nil {
		err = client.Send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Hello{Hello: &syncv1.Hello{Version: "test"}}})
	}
	if err != nil {
		c.T.Fatal(err)
	}
}
