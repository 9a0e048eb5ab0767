package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"keyward.dev/shared/mtls"
)

// ErrRequest says that a certificate request cannot be used, whoever sent it.
var ErrRequest = errors.New("bad certificate request")

// maxRequest bounds a certificate request; one with a P-384 key and no extensions has 300 bytes.
const maxRequest = 16 << 10

// Request is a public key whose private half the sender has proven to hold. Nothing else of a certificate request counts.
type Request struct {
	public any
	// KeyHash is the SHA-256 of the public key's SubjectPublicKeyInfo.
	KeyHash [sha256.Size]byte
}

// ParseRequest reads a PKCS #10 request and checks its proof of possession.
func ParseRequest(der []byte) (Request, error) {
	if len(der) > maxRequest {
		return Request{}, fmt.Errorf("%w: it is too large", ErrRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Request{}, fmt.Errorf("%w: it does not parse", ErrRequest)
	}
	if !allowed(csr.PublicKey) {
		return Request{}, fmt.Errorf("%w: its key is not ECDSA P-256 or P-384", ErrRequest)
	}
	if err := csr.CheckSignature(); err != nil {
		return Request{}, fmt.Errorf("%w: its signature is wrong", ErrRequest)
	}
	return Request{public: csr.PublicKey, KeyHash: sha256.Sum256(csr.RawSubjectPublicKeyInfo)}, nil
}

func allowed(public any) bool {
	k, ok := public.(*ecdsa.PublicKey)
	return ok && (k.Curve == elliptic.P256() || k.Curve == elliptic.P384())
}

// Issued is a certificate of a gateway.
type Issued struct {
	// Chain is the certificate and the intermediate, with what leads to the roots that were current before, DER: a peer that
	// knows only those verifies it too.
	Chain  [][]byte
	Serial string
	// Issuer is the id of the intermediate.
	Issuer   string
	NotAfter time.Time
}

// IssueGateway signs a certificate for the key, with the identity as its only name.
func (c *CA) IssueGateway(r Request, id mtls.ID) (Issued, error) {
	if !id.IsGateway() || id.TrustDomain != c.cfg.TrustDomain {
		return Issued{}, errors.New("issue certificate: the identity is not a gateway's of this trust domain")
	}
	s := c.state.Load()
	t, err := c.leaf(s, c.cfg.GatewayTTL)
	if err != nil {
		return Issued{}, fmt.Errorf("issue certificate: %w", err)
	}
	t.URIs = []*url.URL{id.URL()}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, err := sign(t, s.intermediate.cert, r.public, s.intermediate.key)
	if err != nil {
		return Issued{}, fmt.Errorf("issue certificate: %w", err)
	}
	return Issued{
		Chain:  append([][]byte{cert.Raw, s.intermediate.cert.Raw}, raw(s.bridges)...),
		Serial: hex.EncodeToString(cert.SerialNumber.Bytes()), Issuer: s.intermediate.id, NotAfter: cert.NotAfter,
	}, nil
}

func (c *CA) leaf(s *state, ttl time.Duration) (*x509.Certificate, error) {
	t, err := c.template("", ttl)
	if err != nil {
		return nil, err
	}
	if !c.cfg.Now().Before(s.intermediate.cert.NotAfter) {
		return nil, errors.New("the intermediate has expired and could not be renewed")
	}
	t.Subject.CommonName, t.Subject.Organization = "", nil
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.NotAfter = earlier(t.NotAfter, s.intermediate.cert.NotAfter)
	return t, nil
}

// ServerCertificate returns the certificate of this replica, made anew when half of its life is over or the authorities
// have changed. Its chain contains the root, because a joining gateway knows only the root's hash, and what leads to the roots
// that were current before, and these themselves, for gateways that know no other.
func (c *CA) ServerCertificate() (*tls.Certificate, error) {
	s := c.state.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.server; have != nil && !c.old(have.Leaf, half) && slices.EqualFunc(have.Certificate[1:], s.above(), bytes.Equal) {
		return have, nil
	}
	made, err := c.issueServer(s)
	if err != nil {
		return nil, fmt.Errorf("issue server certificate: %w", err)
	}
	c.server = made
	return made, nil
}

func (c *CA) issueServer(s *state) (*tls.Certificate, error) {
	id, err := mtls.ControlPlaneID(c.cfg.TrustDomain, c.cfg.Replica)
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	t, err := c.leaf(s, serverTTL)
	if err != nil {
		return nil, err
	}
	t.URIs = []*url.URL{id.URL()}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range c.cfg.Names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if name != "" {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	cert, err := sign(t, s.intermediate.cert, key.Public(), s.intermediate.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: append([][]byte{cert.Raw}, s.above()...), PrivateKey: key, Leaf: cert}, nil
}
