package mtls

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ParseSPKI reads a pin in hexadecimal form.
func ParseSPKI(s string) (SPKI, error) {
	var p SPKI
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(p) {
		return p, errors.New("the hash of a root's public key has 64 hexadecimal digits")
	}
	copy(p[:], raw)
	return p, nil
}

// String returns the hexadecimal form.
func (p SPKI) String() string { return hex.EncodeToString(p[:]) }

// BundleDigest is what names a trust bundle: SHA-256 of its roots in their order, each with its length before it.
func BundleDigest(roots [][]byte) [sha256.Size]byte {
	var all []byte
	for _, root := range roots {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(root))), root...)
	}
	return sha256.Sum256(all)
}

// VerifyGateway checks a chain, leaf first, as a gateway's of the trust domain at the given time.
func VerifyGateway(chain []*x509.Certificate, roots *x509.CertPool, trustDomain string, at time.Time) (ID, error) {
	id, err := verify(chain, roots, trustDomain, x509.ExtKeyUsageClientAuth, at)
	if err != nil {
		return ID{}, err
	}
	if !id.IsGateway() {
		return ID{}, errors.New("certificate is not a gateway's")
	}
	return id, nil
}

// VerifyControlPlane checks a chain, leaf first, as a control-plane replica's of the trust domain at the given time.
func VerifyControlPlane(chain []*x509.Certificate, roots *x509.CertPool, trustDomain string, at time.Time) (ID, error) {
	id, err := verify(chain, roots, trustDomain, x509.ExtKeyUsageServerAuth, at)
	if err != nil {
		return ID{}, err
	}
	if id.IsGateway() {
		return ID{}, errors.New("certificate is not a control plane's")
	}
	return id, nil
}

// VerifyPinned checks a chain, leaf first, as a control-plane replica's under the one root in the chain whose public key
// has the pinned hash.
func VerifyPinned(chain []*x509.Certificate, pin SPKI, trustDomain string, at time.Time) (ID, error) {
	for _, c := range chain[min(1, len(chain)):] {
		got := SPKIOf(c)
		if subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
			continue
		}
		if !c.IsCA || c.CheckSignatureFrom(c) != nil {
			return ID{}, errors.New("the pinned certificate is not a root")
		}
		roots := x509.NewCertPool()
		roots.AddCert(c)
		return VerifyControlPlane(chain, roots, trustDomain, at)
	}
	return ID{}, errors.New("the server's chain does not contain the pinned root")
}

func verify(chain []*x509.Certificate, roots *x509.CertPool, trustDomain string, use x509.ExtKeyUsage, at time.Time) (ID, error) {
	if len(chain) == 0 {
		return ID{}, errors.New("no certificate was presented")
	}
	if roots == nil {
		// x509 would fall back to the machine's roots.
		return ID{}, errors.New("there is no trust bundle")
	}
	leaf := chain[0]
	if leaf.IsCA {
		return ID{}, errors.New("certificate is an authority's")
	}
	// x509.Verify accepts a leaf without any extended usage, or with the "any" usage, for every purpose.
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{use}) || len(leaf.UnknownExtKeyUsage) > 0 {
		return ID{}, errors.New("certificate is not meant for this side of the connection")
	}
	id, err := CertificateID(leaf)
	if err != nil {
		return ID{}, err
	}
	if id.TrustDomain != trustDomain {
		return ID{}, fmt.Errorf("certificate is of trust domain %q, want %q", id.TrustDomain, trustDomain)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}}
	if _, err := leaf.Verify(opts); err != nil {
		return ID{}, fmt.Errorf("verify certificate chain: %w", err)
	}
	return id, nil
}
