package certtest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what responders know certificates by
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"sync"
	"testing"
	"time"
)

// OCSP is the answer of a responder. The zero value of everything but Of says that the certificate is good, for an hour.
type OCSP struct {
	Of      *x509.Certificate
	Revoked bool
	Unknown bool
	// By signs; nil: the issuer. Its certificate comes along if Along is set.
	By    *Cert
	Along bool
	// About is whom the answer names as the issuer; nil: who it is.
	About      *Cert
	ThisUpdate time.Time
	// Lasts is for how long the answer is in force; negative: it does not say.
	Lasts time.Duration
	Nonce []byte

	asked *ocspID // what the question says; nil: nobody asked
}

type ocspID struct {
	Hash              pkix.AlgorithmIdentifier
	NameHash, KeyHash []byte
	Serial            *big.Int
}

type ocspSingle struct {
	ID         ocspID
	Good       asn1.Flag   `asn1:"tag:0,optional"`
	Revoked    ocspRevoked `asn1:"tag:1,optional"`
	Unknown    asn1.Flag   `asn1:"tag:2,optional"`
	ThisUpdate time.Time   `asn1:"generalized"`
	NextUpdate time.Time   `asn1:"generalized,explicit,tag:0,optional"`
}

type ocspRevoked struct {
	At time.Time `asn1:"generalized"`
}

type ocspData struct {
	Responder  asn1.RawValue
	ProducedAt time.Time `asn1:"generalized"`
	List       []ocspSingle
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

type ocspBasic struct {
	Data         asn1.RawValue
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type ocspAnswer struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type asn1.ObjectIdentifier
		Body []byte
	} `asn1:"explicit,tag:0"`
}

// Answer makes an answer about a certificate that c has issued. Keys are of P-256, RSA or Ed25519.
func (c *Cert) Answer(t testing.TB, o OCSP) []byte {
	t.Helper()
	by, about := o.By, o.About
	if by == nil {
		by = c
	}
	if about == nil {
		about = c
	}
	now := time.Now().UTC().Truncate(time.Second)
	if o.ThisUpdate.IsZero() {
		o.ThisUpdate = now.Add(-time.Minute)
	}
	one := ocspSingle{ThisUpdate: o.ThisUpdate.UTC()}
	if o.asked != nil && o.About == nil {
		one.ID = *o.asked
	} else {
		one.ID = idOf(t, about.Cert, o.Of)
	}
	switch {
	case o.Lasts == 0:
		one.NextUpdate = now.Add(time.Hour)
	case o.Lasts > 0:
		one.NextUpdate = one.ThisUpdate.Add(o.Lasts)
	}
	switch {
	case o.Revoked:
		one.Revoked.At = now.Add(-time.Minute)
	case o.Unknown:
		one.Unknown = true
	default:
		one.Good = true
	}
	data := ocspData{
		Responder:  asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: by.Cert.RawSubject},
		ProducedAt: now, List: []ocspSingle{one},
	}
	if len(o.Nonce) > 0 {
		data.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: encode(t, o.Nonce)}}
	}
	return sealed(t, by, encode(t, data), o.Along)
}

func sealed(t testing.TB, by *Cert, data []byte, along bool) []byte {
	t.Helper()
	sum := sha256.Sum256(data)
	algorithm, hash, digest := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, crypto.SHA256, sum[:]
	switch by.Key.Public().(type) {
	case ed25519.PublicKey:
		algorithm, hash, digest = asn1.ObjectIdentifier{1, 3, 101, 112}, 0, data
	case *rsa.PublicKey:
		algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	}
	signature, err := by.Key.Sign(rand.Reader, digest, hash)
	if err != nil {
		t.Fatal(err)
	}
	basic := ocspBasic{
		Data:      asn1.RawValue{FullBytes: data},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: algorithm},
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	}
	if along {
		basic.Certificates = []asn1.RawValue{{FullBytes: by.Cert.Raw}}
	}
	var a ocspAnswer
	a.Bytes.Type, a.Bytes.Body = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, encode(t, basic)
	return encode(t, a)
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func idOf(t testing.TB, issuer, of *x509.Certificate) ocspID {
	t.Helper()
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		t.Fatal(err)
	}
	name, key := sha1.Sum(issuer.RawSubject), sha1.Sum(spki.Key.RightAlign()) //nolint:gosec // as above
	return ocspID{
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, Parameters: asn1.NullRawValue},
		name[:], key[:], of.SerialNumber,
	}
}

// Signer makes a certificate with which somebody may answer for the authority.
func (c *Cert) Signer(t testing.TB, name string, options ...Option) *Cert {
	t.Helper()
	return c.Issue(t, name, append([]Option{Template(func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })}, options...)...)
}

// Responder answers for an authority over HTTP. It is safe for concurrent use.
type Responder struct {
	t  testing.TB
	ca *Cert

	mu sync.Mutex
	// All guarded by mu: what is said of each certificate, by serial number, and how many were asked about.
	said  map[string]OCSP
	asked int
	down  bool
}

// NewResponder returns a responder that knows no certificate.
func NewResponder(t testing.TB, ca *Cert) *Responder {
	return &Responder{t: t, ca: ca, said: map[string]OCSP{}}
}

// Say has the responder answer so from now on.
func (r *Responder) Say(o OCSP) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said[o.Of.SerialNumber.String()] = o
}

// Down has it answer nothing but errors, or not any more.
func (r *Responder) Down(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// Asked is how many questions have come.
func (r *Responder) Asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// ServeHTTP implements http.Handler.
func (r *Responder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var question struct {
		TBS struct {
			List []struct{ ID ocspID }
		}
	}
	body, err := io.ReadAll(q.Body)
	if err == nil {
		_, err = asn1.Unmarshal(body, &question)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if err != nil || r.down || len(question.TBS.List) == 0 {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	serial := question.TBS.List[0].ID.Serial
	o, ok := r.said[serial.String()]
	if !ok {
		o = OCSP{Of: &x509.Certificate{SerialNumber: serial}, Unknown: true}
	}
	o.asked = &question.TBS.List[0].ID // as responders do: it is known by the hashes that whoever asks has chosen
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(r.ca.Answer(r.t, o))
}
