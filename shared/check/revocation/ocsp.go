package revocation

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	_ "crypto/sha1" //nolint:gosec // what most responders know certificates by; it guards nothing
	_ "crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Status is what is known of a certificate. The zero value is that nothing is.
type Status uint8

// Statuses.
const (
	Unknown Status = iota
	Good
	Revoked
)

// Answer is what a responder said.
type Answer struct {
	Status Status
	// The answer is of ThisUpdate, and out of date after NextUpdate; zero: it does not say.
	ThisUpdate, NextUpdate time.Time
}

// MaxAnswer bounds the answer of a responder, in bytes.
const MaxAnswer = 64 << 10

// skew is how far clocks of responders may be ahead.
const skew = 5 * time.Minute

var (
	hashSHA1       = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	hashSHA256     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	extensionNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
)

// certID is by what a responder knows a certificate (RFC 6960 section 4.1.1).
type certID struct {
	Hash              pkix.AlgorithmIdentifier
	NameHash, KeyHash []byte
	Serial            *big.Int
}

type question struct {
	TBS struct {
		List       []questionOf
		Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
	}
}

type questionOf struct{ Certificate certID }

// Question is a request for a certificate. With a nonce the responder is asked for a new answer, which not all of them give.
func Question(certificate, issuer *x509.Certificate, nonce []byte) ([]byte, error) {
	hash, id := crypto.SHA1, hashSHA1
	if fips140.Enforced() {
		hash, id = crypto.SHA256, hashSHA256
	}
	name, key, err := hashes(issuer, hash)
	if err != nil {
		return nil, err
	}
	var q question
	q.TBS.List = []questionOf{{certID{
		pkix.AlgorithmIdentifier{Algorithm: id, Parameters: asn1.NullRawValue}, name, key, certificate.SerialNumber,
	}}}
	if len(nonce) > 0 {
		value, err := asn1.Marshal(nonce)
		if err != nil {
			return nil, fmt.Errorf("encode nonce: %w", err)
		}
		q.TBS.Extensions = []pkix.Extension{{Id: extensionNonce, Value: value}}
	}
	out, err := asn1.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode question: %w", err)
	}
	return out, nil
}

// hashes are those of an issuer's name and key.
func hashes(issuer *x509.Certificate, hash crypto.Hash) (name, key []byte, err error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, nil, fmt.Errorf("read key of issuer: %w", err)
	}
	h := hash.New()
	h.Write(issuer.RawSubject)
	name = h.Sum(nil)
	h.Reset()
	h.Write(spki.Key.RightAlign())
	return name, h.Sum(nil), nil
}

// ReadAnswer reads what a responder answered and checks that it is about this certificate of this issuer, that the issuer, or
// whom it has appointed, signed it, that it is in force at the time, and that it is for the nonce, if it is for one. The zero
// time is for an answer that was read before: whether it is in force is not looked at.
func ReadAnswer(text []byte, certificate, issuer *x509.Certificate, nonce []byte, at time.Time) (Answer, error) {
	r, err := read(text, certificate)
	if err != nil {
		return Answer{}, fmt.Errorf("read answer of responder: %w", err)
	}
	if err := signedFor(r, issuer, at); err != nil {
		return Answer{}, err
	}
	if err := about(r, certificate, issuer, nonce); err != nil {
		return Answer{}, err
	}
	switch {
	case at.IsZero():
	case r.ThisUpdate.After(at.Add(skew)):
		return Answer{}, errors.New("the answer of the responder is of the future")
	case !r.NextUpdate.IsZero() && !at.Before(r.NextUpdate):
		return Answer{}, errors.New("the answer of the responder is out of date")
	}
	a := Answer{ThisUpdate: r.ThisUpdate, NextUpdate: r.NextUpdate}
	switch r.Status {
	case ocsp.Good:
		a.Status = Good
	case ocsp.Revoked:
		a.Status = Revoked
	}
	return a, nil
}

// signedFor checks who has signed: the issuer, or the holder of a certificate that the issuer itself has given for that.
func signedFor(r *ocsp.Response, issuer *x509.Certificate, at time.Time) error {
	c := r.Certificate
	if c == nil {
		if err := r.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("the answer of the responder is not signed by the issuer: %w", err)
		}
		return nil
	}
	if err := r.CheckSignatureFrom(c); err != nil {
		return fmt.Errorf("the answer of the responder is not signed by whom it says: %w", err)
	}
	switch {
	case c.Equal(issuer):
		return nil
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject):
		return errors.New("the answer of the responder is signed by somebody whom the issuer does not know")
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the answer of the responder is signed with a certificate that is not for that")
	case !at.IsZero() && (at.Before(c.NotBefore) || at.After(c.NotAfter)):
		return errors.New("the answer of the responder is signed with a certificate that is not valid")
	}
	if err := c.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the answer of the responder is signed by somebody whom the issuer has not appointed: %w", err)
	}
	return nil
}

type answers struct {
	Version    int `asn1:"optional,default:0,explicit,tag:0"`
	Responder  asn1.RawValue
	ProducedAt time.Time `asn1:"generalized"`
	List       []answerOn
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

// answerOn begins like an answer on one certificate; what follows the library has read.
type answerOn struct{ Certificate certID }

// about checks what the library does not: that an answer with the certificate's serial number is about one of its issuer, as a
// responder may speak for several, and that it is for the nonce.
func about(r *ocsp.Response, certificate, issuer *x509.Certificate, nonce []byte) error {
	var all answers
	if _, err := asn1.Unmarshal(r.TBSResponseData, &all); err != nil {
		return fmt.Errorf("read answer of responder: %w", err)
	}
	for _, one := range all.List {
		if one.Certificate.Serial.Cmp(certificate.SerialNumber) != 0 {
			continue
		}
		if err := one.Certificate.of(issuer); err != nil {
			return err
		}
		break // the library takes the first one, too
	}
	for _, e := range all.Extensions {
		var got []byte
		if !e.Id.Equal(extensionNonce) || len(nonce) == 0 {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &got); err != nil || !bytes.Equal(got, nonce) {
			return errors.New("the answer of the responder is for another question")
		}
	}
	return nil
}

// of checks that a certificate is one of an issuer.
func (c *certID) of(issuer *x509.Certificate) error {
	var hash crypto.Hash
	switch {
	case c.Hash.Algorithm.Equal(hashSHA1) && !fips140.Enforced():
		hash = crypto.SHA1
	case c.Hash.Algorithm.Equal(hashSHA256):
		hash = crypto.SHA256
	default:
		return errors.New("the answer of the responder names the issuer by a hash that is not known")
	}
	name, key, err := hashes(issuer, hash)
	if err != nil {
		return err
	}
	if !bytes.Equal(c.NameHash, name) || !bytes.Equal(c.KeyHash, key) {
		return errors.New("the answer of the responder is about a certificate of another issuer")
	}
	return nil
}
