package syncclient

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/conn"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

const (
	// callTimeout bounds enrolment and renewal after expiry.
	callTimeout = 15 * time.Second
	// maxMessage bounds what is taken in one message; frames are below 256 KiB.
	maxMessage = 1 << 20
	readBuffer = 4 << 10
	// window is how much the control plane may send ahead: enough for 40 MB a second over a line of 100 ms. A window that grows
	// by what is measured would cost a ping and its answer for every change.
	window = 4 << 20
)

// load takes the identity that was kept.
func (c *Client) load() error {
	k, err := c.files.load()
	if err != nil || k.chain == nil {
		return err
	}
	id, err := newIdentity(k.key, k.chain, k.roots, c.cfg.TrustDomain, true)
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) && c.mayJoin() {
		// Its root was retired before it was renewed. The file stays until there is another identity.
		c.cfg.Log.Warn("the identity hangs on no root that is trusted; joining anew", "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("identity in %s: %w", c.cfg.IdentityDir, err)
	}
	if c.cfg.Group != "" && id.id.Group != c.cfg.Group {
		return fmt.Errorf("identity in %s is of group %s, not %s", c.cfg.IdentityDir, id.id.Group, c.cfg.Group)
	}
	c.identity.Store(id)
	return nil
}

// mayJoin says whether there is something to join with.
func (c *Client) mayJoin() bool { return c.cfg.JoinToken != "" || c.cfg.ServiceAccountTokenFile != "" }

// identify makes sure that there is a certificate that is good now.
func (c *Client) identify(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	have := c.identity.Load()
	if have == nil {
		return c.enrol(ctx, address)
	}
	if time.Now().Before(have.leaf().NotAfter) {
		return nil
	}
	err := c.renewExpired(ctx, address, have)
	if status.Code(err) != codes.FailedPrecondition {
		return err
	}
	// Too late. A revoked gateway gets another answer, and does not come here to join again behind the operator's back.
	c.cfg.Log.WarnContext(ctx, "the certificate can no longer be renewed; joining anew", "err", err)
	if !c.mayJoin() {
		return err
	}
	return c.enrol(ctx, address)
}

// enrol gets a first certificate. The key is kept before it is shown, so that a repetition costs nothing; not so where an
// identity is kept that is too old to be renewed: it stays until there is another, since the operator may grant it more time.
func (c *Client) enrol(ctx context.Context, address string) error {
	if c.cfg.RootPin == nil {
		return errors.New("enrol: the hash of the root's public key is not known")
	}
	k, err := c.files.load()
	if err != nil {
		return err
	}
	if k.key == nil || k.chain != nil {
		replaces := k.chain != nil
		if k.key, err = c.enrolmentKey(); err != nil {
			return err
		}
		if !replaces {
			err = c.files.save(kept{key: k.key})
		}
		if err != nil {
			return err
		}
	}
	csr, err := newRequest(k.key)
	if err != nil {
		return err
	}
	req := &syncv1.EnrolRequest{Csr: csr, Group: c.cfg.Group, Labels: c.cfg.Labels, Version: c.cfg.Version}
	if err := c.attestation(req); err != nil {
		return err
	}
	conn, err := c.dial(address, mtls.EnrolTLS(mtls.Config{TrustDomain: c.cfg.TrustDomain}, *c.cfg.RootPin))
	if err != nil {
		return err
	}
	defer conn.Close()
	res, err := syncv1.NewEnrolmentServiceClient(conn).Enrol(ctx, req)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if !slices.ContainsFunc(res.GetTrustBundle(), c.isPinned) {
		return errors.New("enrol: the trust bundle does not contain the pinned root")
	}
	id, err := newIdentity(k.key, res.GetChain(), res.GetTrustBundle(), c.cfg.TrustDomain, false)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	c.cfg.Log.InfoContext(ctx, "gateway enrolled", "group", id.id.Group, "gateway", id.id.Gateway)
	c.enrolling = nil
	return c.install(id)
}

// enrolmentKey returns the key of this process's enrolment, which stays the same until it has succeeded.
func (c *Client) enrolmentKey() (crypto.Signer, error) {
	if c.enrolling == nil {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		c.enrolling = key
	}
	return c.enrolling, nil
}

func (c *Client) isPinned(der []byte) bool {
	root, err := x509.ParseCertificate(der)
	return err == nil && mtls.SPKIOf(root) == *c.cfg.RootPin
}

func (c *Client) attestation(req *syncv1.EnrolRequest) error {
	if c.cfg.JoinToken != "" {
		req.Attestation = &syncv1.EnrolRequest_JoinToken{JoinToken: c.cfg.JoinToken}
		return nil
	}
	token, err := os.ReadFile(c.cfg.ServiceAccountTokenFile)
	if err != nil {
		return fmt.Errorf("read service-account token: %w", err)
	}
	req.Attestation = &syncv1.EnrolRequest_ServiceAccountJwt{ServiceAccountJwt: string(bytes.TrimSpace(token))}
	return nil
}

// renewExpired exchanges an expired certificate, proving that we hold its key.
func (c *Client) renewExpired(ctx context.Context, address string, have *identity) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := newRequest(key)
	if err != nil {
		return err
	}
	now := time.Now()
	old := have.cert.Certificate[0]
	sum := sha256.Sum256(mtls.RenewalMessage(old, csr, now))
	signer, ok := have.cert.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("renew: the key cannot sign")
	}
	signature, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	conn, err := c.dial(address, mtls.RenewTLS(c.tls()))
	if err != nil {
		return err
	}
	defer conn.Close()
	req := &syncv1.RenewRequest{Certificate: old, Csr: csr, Signature: signature, At: timestamppb.New(now)}
	res, err := syncv1.NewEnrolmentServiceClient(conn).Renew(ctx, req)
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	id, err := newIdentity(key, res.GetChain(), res.GetTrustBundle(), c.cfg.TrustDomain, false)
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	if id.id != have.id {
		return errors.New("renew: the new certificate is of another gateway")
	}
	return c.install(id)
}

// replace makes a new identity of the current one, for the next connections. A directory that cannot be written is
// reported, but does not take the identity away.
func (c *Client) replace(change func(have *identity) (*identity, error)) error {
	c.replacing.Lock()
	defer c.replacing.Unlock()
	have := c.identity.Load()
	id, err := change(have)
	if err != nil || id == have && !c.unkept.Load() {
		return err
	}
	c.identity.Store(id)
	key, ok := id.cert.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("keep identity: the key cannot sign")
	}
	err = c.files.save(kept{key: key, chain: id.cert.Certificate, roots: id.roots})
	c.unkept.Store(err != nil)
	if err != nil {
		c.cfg.Log.Error("identity could not be kept; a restart will have to join anew", "err", err)
	}
	c.reaffirm() // sealed to the new key
	return nil
}

func (c *Client) install(id *identity) error {
	return c.replace(func(*identity) (*identity, error) { return id, nil })
}

// tls is how connections of the enrolled gateway are verified, always by its newest identity.
func (c *Client) tls() mtls.Config {
	return mtls.Config{
		TrustDomain: c.cfg.TrustDomain,
		Roots:       func() *x509.CertPool { return c.identity.Load().pool },
		Certificate: func() (*tls.Certificate, error) { return c.identity.Load().cert, nil },
	}
}

// promptly shakes hands over a connection that is read and written promptly: for a stream on which little comes, what it
// wakes would cost more than what comes.
type promptly struct {
	credentials.TransportCredentials
}

func (p promptly) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.TransportCredentials.ClientHandshake(ctx, authority, conn.Promptly(raw))
}

func (p promptly) Clone() credentials.TransportCredentials {
	return promptly{p.TransportCredentials.Clone()}
}

func (c *Client) dial(address string, t *tls.Config) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(promptly{credentials.NewTLS(t)}),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
			conn, err := c.cfg.Dial(ctx, a)
			if err == nil {
				c.dialled.Store(true)
			}
			return conn, err
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithReadBufferSize(readBuffer), // TLS has one of its own
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn, nil
}
