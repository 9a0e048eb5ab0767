// Package mtlsauth enforces the mtls-auth policy: it identifies a consumer by the certificate with which the client made its
// TLS connection. Whether the certificate may be believed the exchange's client says; what it says of its owner is looked up in
// the directory by hashes that are made once per connection.
package mtlsauth

import (
	"sync/atomic"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

const credentialType = "mtls-auth"

type mtlsAuth struct {
	ca          []string
	authorities string // their key; empty: those of the route
	by          []policyv1.CertificateIdentity
	challenge   exchange.Header
	ambiguous   *atomic.Uint64
}

// The refusals, one per reason. Whoever gets here has proved to have the certificate's key.
var (
	refuseMissing     = exchange.NewRefusal(401, "client_certificate_required", "This route needs a client certificate.").Absent()
	refuseDistrusted  = exchange.NewRefusal(401, "client_certificate_refused", "The client certificate is not trusted here.")
	refuseUnknown     = exchange.NewRefusal(401, "unauthenticated", "The client certificate is nobody's here.")
	refuseAmbiguous   = exchange.NewRefusal(401, "client_certificate_ambiguous", "The client certificate is that of several consumers.")
	refuseUnsure      = exchange.NewRefusal(503, "client_certificate_unchecked", "It cannot be found out now whether the client certificate is revoked.", exchange.Field("Retry-After", "5"))
	refuseUnavailable = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.")
)

// Build makes the policy.
func Build(cfg *policyv1.MtlsAuth, d policy.Deps) (policy.Policy, error) {
	m := &mtlsAuth{
		ca: clientcert.Names(cfg.GetCa()), by: cfg.GetIdentifyBy(), ambiguous: &d.Host.Ambiguous,
		challenge: exchange.Field("WWW-Authenticate", `ClientCertificate realm="keyward"`),
	}
	if len(m.ca) > 0 {
		m.authorities = clientcert.Key(nil, m.ca)
	}
	if len(m.by) == 0 {
		m.by = []policyv1.CertificateIdentity{
			policyv1.CertificateIdentity_CERTIFICATE_IDENTITY_FINGERPRINT,
			policyv1.CertificateIdentity_CERTIFICATE_IDENTITY_SAN,
			policyv1.CertificateIdentity_CERTIFICATE_IDENTITY_SUBJECT,
		}
	}
	return m, nil
}

// Authorities implements policy.Certified.
func (m *mtlsAuth) Authorities() []string { return m.ca }

// Invalid implements policy.Uniform.
func (m *mtlsAuth) Invalid() *exchange.Refusal { return refuseUnknown }

// Challenge implements policy.Challenger.
func (m *mtlsAuth) Challenge() exchange.Header { return m.challenge }

// Request implements policy.Policy.
func (m *mtlsAuth) Request(x *exchange.Exchange) policy.Verdict {
	var certificate *exchange.Certificate
	trust := exchange.Missing
	if x.Client != nil {
		certificate, trust = x.Client.Certificate(m.authorities)
	}
	switch {
	case trust == exchange.Missing:
		return refuse(x, refuseMissing)
	case trust == exchange.Unsure:
		return refuse(x, refuseUnsure)
	case trust != exchange.Trusted || certificate == nil:
		return refuse(x, refuseDistrusted)
	case x.Directory == nil:
		return refuse(x, refuseUnavailable)
	}
	for _, by := range m.by {
		c, several := find(x, hashes(certificate, by))
		switch {
		case several:
			m.ambiguous.Add(1)
			return refuse(x, refuseAmbiguous)
		case c == nil:
			continue
		case !c.ValidAt(x.Timings.Received):
			return refuse(x, refuseUnknown) // what comes next would be a way around its end
		}
		x.Principal = c.Principal
		return policy.Next
	}
	if !x.Directory.Complete(credentialType) {
		return refuse(x, refuseUnavailable) // not to know is not to refuse
	}
	return refuse(x, refuseUnknown)
}

func refuse(x *exchange.Exchange, r *exchange.Refusal) policy.Verdict {
	x.Refuse(r)
	return policy.Stop
}

// hashes are those of what a certificate says in one way; none in a way that is not known here.
func hashes(c *exchange.Certificate, by policyv1.CertificateIdentity) [][32]byte {
	switch by {
	case policyv1.CertificateIdentity_CERTIFICATE_IDENTITY_FINGERPRINT:
		return c.Fingerprint
	case policyv1.CertificateIdentity_CERTIFICATE_IDENTITY_SAN:
		return c.SANs
	case policyv1.CertificateIdentity_CERTIFICATE_IDENTITY_SUBJECT:
		return c.Subjects
	default:
		return nil
	}
}

// find returns the credential that one of the hashes is of, a valid one if there is one. Several: they are of more than one
// consumer, of whom none is as good as another.
func find(x *exchange.Exchange, hashes [][32]byte) (found *exchange.Credential, several bool) {
	for i := range hashes {
		c, several := x.Directory.Identified(credentialType, &hashes[i])
		switch {
		case several:
			return nil, true
		case c == nil:
		case found == nil:
			found = c
		case found.Principal.ConsumerUID != c.Principal.ConsumerUID:
			return nil, true
		case !found.ValidAt(x.Timings.Received):
			found = c
		}
	}
	return found, false
}
