package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"keyward.dev/shared/mtls"
)

// ErrNotRenewable says that an expired certificate does not earn a new one.
var ErrNotRenewable = errors.New("certificate cannot be renewed")

// maxSignatureAge is how far the time in a renewal request may be from ours.
const maxSignatureAge = 5 * time.Minute

// Expired is what a gateway with an expired certificate shows to get a new one.
type Expired struct {
	// Certificate is the leaf, DER; its intermediate is known here.
	Certificate []byte
	// CSR is the request for the new key, DER.
	CSR       []byte
	Signature []byte
	At        time.Time
}

// VerifyExpired checks that the certificate was one of ours, ended no longer than the grace period ago, and that the sender holds its
// key. It says nothing about revocation.
func (c *CA) VerifyExpired(e Expired) (mtls.ID, error) {
	now := c.cfg.Now()
	if d := now.Sub(e.At).Abs(); d > maxSignatureAge {
		return mtls.ID{}, fmt.Errorf("%w: it was signed at another time", ErrNotRenewable)
	}
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return mtls.ID{}, fmt.Errorf("%w: it does not parse", ErrNotRenewable)
	}
	if now.After(cert.NotAfter.Add(c.cfg.RenewGrace)) {
		return mtls.ID{}, fmt.Errorf("%w: it expired more than %s ago; the gateway has to join again", ErrNotRenewable, c.cfg.RenewGrace)
	}
	if now.Before(cert.NotBefore) {
		return mtls.ID{}, fmt.Errorf("%w: it is not yet valid", ErrNotRenewable)
	}
	s := c.state.Load()
	chain := append([]*x509.Certificate{cert}, c.intermediates(s)...)
	// The chain is checked as of the last moment at which the certificate was good: its intermediate may be gone too.
	id, err := mtls.VerifyGateway(chain, s.trust.Pool, c.cfg.TrustDomain, earlier(now, cert.NotAfter))
	if err != nil {
		return mtls.ID{}, fmt.Errorf("%w: %w", ErrNotRenewable, err)
	}
	if err := cert.CheckSignature(x509.ECDSAWithSHA256, mtls.RenewalMessage(e.Certificate, e.CSR, e.At), e.Signature); err != nil {
		return mtls.ID{}, fmt.Errorf("%w: the signature is not of its key", ErrNotRenewable)
	}
	return id, nil
}

func (c *CA) intermediates(s *state) []*x509.Certificate {
	all := make([]*x509.Certificate, len(s.previous))
	copy(all, s.previous)
	return append(all, s.intermediate.cert)
}
