package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Config is what both sides need.
type Config struct {
	// TrustDomain the peer must belong to.
	TrustDomain string
	// Roots returns the current trust bundle. It is asked on every connection, so that roots can be rotated.
	Roots func() *x509.CertPool
	// Certificate returns our current certificate. It is asked on every connection.
	Certificate func() (*tls.Certificate, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (c Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// ServerTLS returns the settings of the control plane's stream port. A caller without a certificate is let in, because
// enrolment has none yet: who serves on it must check each call with PeerGateway. A caller with a certificate that is not
// a good gateway's is refused in the handshake.
func ServerTLS(c Config) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		ClientAuth: tls.RequestClientCert,
		// A resumed session would carry a chain that was verified under an older trust bundle.
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			_, err := VerifyGateway(s.PeerCertificates, c.Roots(), c.TrustDomain, c.now())
			return err
		},
	}
}

// ClientTLS returns the settings of an enrolled gateway. The server is known by its URI name, not by its address.
func ClientTLS(c Config) *tls.Config {
	t := c.client(func(chain []*x509.Certificate) error {
		_, err := VerifyControlPlane(chain, c.Roots(), c.TrustDomain, c.now())
		return err
	})
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Certificate() }
	return t
}

// RenewTLS returns the settings of a gateway whose certificate is no longer valid: it shows none, and verifies the server
// as an enrolled gateway does.
func RenewTLS(c Config) *tls.Config {
	return c.client(func(chain []*x509.Certificate) error {
		_, err := VerifyControlPlane(chain, c.Roots(), c.TrustDomain, c.now())
		return err
	})
}

// EnrolTLS returns the settings of a gateway that knows of the control plane only the hash of its root's public key.
func EnrolTLS(c Config, pin SPKI) *tls.Config {
	return c.client(func(chain []*x509.Certificate) error {
		_, err := VerifyPinned(chain, pin, c.TrustDomain, c.now())
		return err
	})
}

func (c Config) client(verify func([]*x509.Certificate) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		// The standard check is by host name and machine roots; VerifyConnection replaces it, also on resumption.
		InsecureSkipVerify:     true, //nolint:gosec // verified below by identity, purpose and our own roots
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if err := verify(s.PeerCertificates); err != nil {
				return fmt.Errorf("verify control plane: %w", err)
			}
			return nil
		},
	}
}

// PeerGateway returns the identity of the gateway at the other end of a connection. It verifies the chain anew, against
// the current trust bundle, but not whether it has expired since the handshake: a connection outlives its certificate when
// the gateway has renewed it, and whoever serves it bounds that.
func PeerGateway(s tls.ConnectionState, roots *x509.CertPool, trustDomain string, at time.Time) (ID, error) {
	if !s.HandshakeComplete || len(s.PeerCertificates) == 0 {
		return ID{}, errors.New("the caller showed no certificate")
	}
	if end := s.PeerCertificates[0].NotAfter; at.After(end) {
		at = end
	}
	return VerifyGateway(s.PeerCertificates, roots, trustDomain, at)
}
