// Package revocation knows what is said about revoked certificates: it opens revocation lists (RFC 5280), and what a CA
// certificate of the configuration says about them. Admission and the job that fetches lists in the control plane and
// compilation in the gateway call the same functions, so what is admitted and stored can be used.
//
// The package is pure: no sockets, no files, no clock.
package revocation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"time"

	"keyward.dev/shared/check/certs"
)

// MaxList bounds a fetched list, in bytes of DER: some hundred thousand certificates.
const MaxList = 4 << 20

const listBlock = "X509 CRL"

// List is a complete revocation list that was signed by an authority. It is never changed.
type List struct {
	// Issuer is the authority.
	Issuer *x509.Certificate
	// Number is that of the list; nil: it has none.
	Number *big.Int
	// The list is of ThisUpdate, and out of date after NextUpdate.
	ThisUpdate, NextUpdate time.Time
	// DER is the list itself.
	DER []byte

	revoked map[string]struct{} // serial numbers
}

// Extensions (RFC 5280 section 5.2 and 5.3). Those that are critical and not known here change what a list means.
var (
	extensionNumber    = asn1.ObjectIdentifier{2, 5, 29, 20}
	extensionReason    = asn1.ObjectIdentifier{2, 5, 29, 21}
	extensionDelta     = asn1.ObjectIdentifier{2, 5, 29, 27}
	extensionPart      = asn1.ObjectIdentifier{2, 5, 29, 28}
	extensionIssuer    = asn1.ObjectIdentifier{2, 5, 29, 29}
	extensionAuthority = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// Parse reads a list in DER, or the only one in PEM, and checks that one of the authorities has signed it. Whether it is out of
// date depends on the time, and is not looked at.
func Parse(text []byte, authorities []*x509.Certificate) (*List, error) {
	if block, rest := pem.Decode(text); block != nil {
		if block.Type != listBlock || len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("is PEM, but not of one revocation list (X509 CRL)")
		}
		text = block.Bytes
	}
	raw, err := x509.ParseRevocationList(text)
	if err != nil {
		return nil, fmt.Errorf("cannot be read as a revocation list: %w", err)
	}
	if err := complete(raw); err != nil {
		return nil, err
	}
	l := &List{
		Number: raw.Number, ThisUpdate: raw.ThisUpdate, NextUpdate: raw.NextUpdate, DER: bytes.Clone(raw.Raw),
		revoked: make(map[string]struct{}, len(raw.RevokedCertificateEntries)),
	}
	if l.Issuer, err = signer(raw, authorities); err != nil {
		return nil, err
	}
	for i := range raw.RevokedCertificateEntries {
		l.revoked[string(raw.RevokedCertificateEntries[i].SerialNumber.Bytes())] = struct{}{}
	}
	return l, nil
}

// complete refuses lists that say less, or other things, than which certificates of their issuer are revoked.
func complete(raw *x509.RevocationList) error {
	if raw.NextUpdate.IsZero() || !raw.NextUpdate.After(raw.ThisUpdate) {
		return errors.New("does not say when the next one comes, so nobody could tell whether it is out of date")
	}
	for _, e := range raw.Extensions {
		switch {
		case e.Id.Equal(extensionDelta):
			return errors.New("is a delta list, which says only what has changed; give the complete one")
		case e.Id.Equal(extensionPart):
			return errors.New("is for a part of what the authority has issued, or for what others have (issuing distribution point); give the complete one")
		case e.Critical && !e.Id.Equal(extensionNumber) && !e.Id.Equal(extensionAuthority):
			return fmt.Errorf("has an extension that must not be passed over and is not known, %s", e.Id)
		}
	}
	for i := range raw.RevokedCertificateEntries {
		for _, e := range raw.RevokedCertificateEntries[i].Extensions {
			switch {
			case e.Id.Equal(extensionIssuer):
				return errors.New("is an indirect list: it has certificates of other issuers; give one of the authority's own")
			case e.Critical && !e.Id.Equal(extensionReason):
				return fmt.Errorf("has an entry with an extension that must not be passed over and is not known, %s", e.Id)
			}
		}
	}
	return nil
}

// signer finds the authority that has signed a list.
func signer(raw *x509.RevocationList, authorities []*x509.Certificate) (*x509.Certificate, error) {
	err := errors.New("is of none of the authorities")
	for _, ca := range authorities {
		if !bytes.Equal(raw.RawIssuer, ca.RawSubject) {
			continue
		}
		wrong := raw.CheckSignatureFrom(ca)
		if wrong == nil {
			return ca, nil
		}
		err = fmt.Errorf("is not signed by the authority %s: %w", certs.Title(ca), wrong)
	}
	return nil, err
}

// Revoked reports whether the certificate of a serial number is on the list.
func (l *List) Revoked(serial *big.Int) bool {
	_, ok := l.revoked[string(serial.Bytes())]
	return ok
}

// Len is how many certificates are on the list.
func (l *List) Len() int { return len(l.revoked) }

// FreshAt reports whether the list is not out of date. One that is says nothing about certificates that are not on it.
func (l *List) FreshAt(at time.Time) bool { return !at.After(l.NextUpdate) }

// Before reports whether the list is older than another one of its authority.
func (l *List) Before(other *List) bool {
	if l.Number != nil && other.Number != nil {
		if c := l.Number.Cmp(other.Number); c != 0 {
			return c < 0
		}
	}
	return l.ThisUpdate.Before(other.ThisUpdate)
}

// SaysSame reports whether the same certificates of the same authority are on both lists.
func (l *List) SaysSame(other *List) bool {
	return l.Issuer.Equal(other.Issuer) && maps.Equal(l.revoked, other.revoked)
}
