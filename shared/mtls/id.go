// Package mtls says who is who on the connections between gateways and the control plane: the form of identities in
// certificates, and the TLS settings of both sides, which check identity, purpose and chain in code on every connection.
// It issues nothing and keeps no keys. Called by the control plane's PKI and stream server and by the gateway's client.
package mtls

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

const scheme = "spiffe://"

// maxIDBytes is SPIFFE's limit for a whole identity.
const maxIDBytes = 2048

var (
	domainForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?$`)
	segmentForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._@-]{0,126}[A-Za-z0-9])?$`)
)

// ID is the identity of a gateway or of a control-plane replica. Exactly one of Gateway and ControlPlane is set.
type ID struct {
	// TrustDomain separates installations from each other.
	TrustDomain string
	// Group is the gateway group; empty for a control-plane replica.
	Group string
	// Gateway is the id the control plane chose for a gateway.
	Gateway string
	// ControlPlane names a control-plane replica.
	ControlPlane string
}

// GatewayID returns the identity of a gateway.
func GatewayID(trustDomain, group, gateway string) (ID, error) {
	id := ID{TrustDomain: trustDomain, Group: group, Gateway: gateway}
	return id, id.check()
}

// ControlPlaneID returns the identity of a control-plane replica.
func ControlPlaneID(trustDomain, replica string) (ID, error) {
	id := ID{TrustDomain: trustDomain, ControlPlane: replica}
	return id, id.check()
}

func (id ID) check() error {
	if !domainForm.MatchString(id.TrustDomain) {
		return fmt.Errorf("trust domain %q is not a lower-case DNS name", id.TrustDomain)
	}
	segments := []string{id.Group, id.Gateway}
	if id.ControlPlane != "" {
		segments = []string{id.ControlPlane}
	}
	for _, s := range segments {
		if !segmentForm.MatchString(s) {
			return fmt.Errorf("identity segment %q is not a name", s)
		}
	}
	return nil
}

// IsGateway says whether the identity is a gateway's.
func (id ID) IsGateway() bool { return id.Gateway != "" }

// String returns the identity's URI.
func (id ID) String() string {
	if id.IsGateway() {
		return scheme + id.TrustDomain + "/group/" + id.Group + "/gateway/" + id.Gateway
	}
	return scheme + id.TrustDomain + "/controlplane/" + id.ControlPlane
}

// URL returns the identity's URI for a certificate.
func (id ID) URL() *url.URL {
	path := strings.TrimPrefix(id.String(), scheme+id.TrustDomain)
	return &url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: path}
}

// ParseID reads an identity. There is one spelling of each: what String gives.
func ParseID(raw string) (ID, error) {
	if len(raw) > maxIDBytes {
		return ID{}, errors.New("identity is too long")
	}
	rest, ok := strings.CutPrefix(raw, scheme)
	if !ok {
		return ID{}, errors.New("identity does not begin with " + scheme)
	}
	parts := strings.Split(rest, "/")
	var id ID
	switch {
	case len(parts) == 5 && parts[1] == "group" && parts[3] == "gateway":
		id = ID{TrustDomain: parts[0], Group: parts[2], Gateway: parts[4]}
	case len(parts) == 3 && parts[1] == "controlplane" && parts[2] != "":
		id = ID{TrustDomain: parts[0], ControlPlane: parts[2]}
	default:
		return ID{}, errors.New("identity is neither a gateway's nor a control plane's")
	}
	if err := id.check(); err != nil {
		return ID{}, err
	}
	return id, nil
}

// CertificateID reads the identity in a certificate, which must hold exactly one URI. It does not verify the certificate.
func CertificateID(cert *x509.Certificate) (ID, error) {
	if len(cert.URIs) != 1 {
		return ID{}, fmt.Errorf("certificate has %d URI names, want 1", len(cert.URIs))
	}
	return ParseID(cert.URIs[0].String())
}

// SPKI is the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo), by which a root is pinned.
type SPKI [sha256.Size]byte

// SPKIOf returns the hash of the certificate's public key.
func SPKIOf(cert *x509.Certificate) SPKI { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }
