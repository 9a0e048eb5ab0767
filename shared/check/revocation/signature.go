package revocation

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/ocsp"
)

var algorithmEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}

// response is what a responder sends (RFC 6960 section 4.2.1).
type response struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type asn1.ObjectIdentifier
		Body []byte
	} `asn1:"explicit,tag:0,optional"`
}

// signed is an answer as it was signed, with what the signer sends along to say who it is.
type signed struct {
	Data         asn1.RawValue
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

// read reads an answer and looks at no signature. The library would check that of an answer with a certificate, and does not know
// Ed25519: it is given the answer without it.
func read(text []byte, certificate *x509.Certificate) (*ocsp.Response, error) {
	var outer response
	var s signed
	rest, err := asn1.Unmarshal(text, &outer)
	if err != nil || len(rest) > 0 || outer.Bytes.Body == nil { // the library says what is wrong
		return ocsp.ParseResponseForCert(text, certificate, nil)
	}
	if rest, err = asn1.Unmarshal(outer.Bytes.Body, &s); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("it is malformed: %w", err)
	}
	along := s.Certificates
	s.Certificates = nil
	if outer.Bytes.Body, err = asn1.Marshal(s); err != nil {
		return nil, fmt.Errorf("it is malformed: %w", err)
	}
	bare, err := asn1.Marshal(outer)
	if err != nil {
		return nil, fmt.Errorf("it is malformed: %w", err)
	}
	r, err := ocsp.ParseResponseForCert(bare, certificate, nil)
	if err != nil {
		return nil, err
	}
	if s.Algorithm.Algorithm.Equal(algorithmEd25519) {
		r.SignatureAlgorithm = x509.PureEd25519
	}
	if len(along) == 0 {
		return r, nil
	}
	// The first one: some send its issuers behind it.
	r.Certificate, err = x509.ParseCertificate(along[0].FullBytes)
	return r, err
}
