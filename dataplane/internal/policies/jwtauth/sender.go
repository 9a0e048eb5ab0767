package jwtauth

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/token"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/certname"
	"keyward.dev/shared/check/jwk"
)

const (
	proofField = "DPoP"
	// proofAge is for how long a proof counts, before and after its iat.
	proofAge = time.Minute
)

// senders says which tokens need a proof that the caller is whom they were made for.
type senders struct {
	dpop, mtls policyv1.JwtProof
	algorithms []jwk.Algorithm
	proofs     *hostsvc.Proofs
	nonce      bool // proofs need one of ours
}

func sendersOf(cfg *policyv1.JwtAuth, algorithms []jwk.Algorithm, proofs *hostsvc.Proofs) (senders, error) {
	s := senders{dpop: cfg.GetDpop(), mtls: cfg.GetMtls(), algorithms: publicOnly(algorithms), proofs: proofs, nonce: cfg.GetDpopUseNonce()}
	for _, p := range []*policyv1.JwtProof{&s.dpop, &s.mtls} {
		switch *p {
		case policyv1.JwtProof_JWT_PROOF_UNSPECIFIED:
			*p = policyv1.JwtProof_JWT_PROOF_OPTIONAL
		case policyv1.JwtProof_JWT_PROOF_OFF, policyv1.JwtProof_JWT_PROOF_OPTIONAL, policyv1.JwtProof_JWT_PROOF_REQUIRED:
		default:
			return s, errors.New("dpop or mtls is not known")
		}
	}
	if s.nonce && s.dpop == policyv1.JwtProof_JWT_PROOF_OFF {
		return s, errors.New("dpop_use_nonce goes with dpop")
	}
	return s, nil
}

// bound reads what a token is bound to; nil if nothing that is to be proved.
func (s *senders) bound(t *token.Token) (*token.Bound, token.Fault) {
	const off, required = policyv1.JwtProof_JWT_PROOF_OFF, policyv1.JwtProof_JWT_PROOF_REQUIRED
	if s.dpop == off && s.mtls == off {
		return nil, token.OK
	}
	b, fault := token.BoundTo(t)
	if fault != token.OK {
		return nil, fault
	}
	if s.dpop == required && b.Thumbprint == "" || s.mtls == required && !b.HasCertificate {
		return nil, token.Confirmation
	}
	if s.dpop == off {
		b.Thumbprint = ""
	}
	b.HasCertificate = b.HasCertificate && s.mtls != off
	if b.Thumbprint == "" && !b.HasCertificate {
		return nil, token.OK
	}
	return &b, token.OK
}

// proved returns nil if the caller has what the token is bound to.
func (j *jwtAuth) proved(x *exchange.Exchange, b *token.Bound, raw []byte, scheme string) *exchange.Refusal {
	if asDPoP := scheme == proofField; asDPoP != (b != nil && b.Thumbprint != "") {
		return j.refusals.of(token.Confirmation) // RFC 9449 section 7.2: neither is as good as the other
	}
	if b == nil {
		return nil
	}
	if b.HasCertificate {
		if r := j.hasCertificate(x, b); r != nil {
			return r
		}
	}
	if b.Thumbprint == "" {
		return nil
	}
	return j.hasKey(x, b, raw)
}

func (j *jwtAuth) hasCertificate(x *exchange.Exchange, b *token.Bound) *exchange.Refusal {
	if x.Client == nil {
		return j.refusals.of(token.Confirmation)
	}
	c, trust := x.Client.Certificate("")
	switch {
	case trust == exchange.Unsure:
		return j.refusals.unavailable
	case trust != exchange.Trusted || c == nil || !slices.Contains(c.Fingerprint, fingerprint(b)):
		return j.refusals.of(token.Confirmation)
	}
	return nil
}

// fingerprint is the certificate's in the form in which clients' certificates say it.
func fingerprint(b *token.Bound) [32]byte {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 2*len(b.Certificate))
	for _, c := range b.Certificate {
		text = append(text, digits[c>>4], digits[c&15])
	}
	return certname.Name{Kind: certname.Fingerprint, Text: string(text)}.Hash()
}

// hasKey verifies the proof of the request (RFC 9449 section 4.3), which counts once.
func (j *jwtAuth) hasKey(x *exchange.Exchange, b *token.Bound, raw []byte) *exchange.Refusal {
	h := x.Request.Header
	at := h.Index(proofField, 0)
	if at < 0 || h.Index(proofField, at+1) >= 0 {
		return j.refusals.proof
	}
	p, fault := token.ParseProof(h[at].Value, j.senders.algorithms)
	if fault != token.OK {
		return j.refusals.proof
	}
	now := x.Timings.Received
	early, late := now.Add(-proofAge), now.Add(proofAge)
	switch {
	case p.Thumbprint != b.Thumbprint, p.Token != token.Hash(raw), p.Method != string(x.Request.Method), !isTarget(x, p.URL),
		p.Issued.Before(early), p.Issued.After(late):
		return j.refusals.proof
	}
	if j.senders.nonce {
		if r := j.hasNonce(x, p.Nonce); r != nil {
			return r
		}
	}
	return j.uses(x, j.senders.proofs, p.Thumbprint, p.ID, p.Issued.Add(proofAge), j.refusals.proof)
}

// uses takes what counts once, which alternatives of one route may look at more than once for one request.
func (j *jwtAuth) uses(x *exchange.Exchange, t *hostsvc.Proofs, key, id string, until time.Time, used *exchange.Refusal) *exchange.Refusal {
	spent := exchange.Spent{In: t.Table, Key: key, ID: id}
	if slices.Contains(x.Spent, spent) {
		return nil
	}
	switch t.Use(key, id, x.Timings.Received, until) {
	case hostsvc.ReplayFirst:
	case hostsvc.ReplayAgain:
		return used
	case hostsvc.ReplayOutage:
		return j.refusals.storeless
	default:
		return j.refusals.full
	}
	x.Spent = append(x.Spent, spent)
	return nil
}

// single returns nil if the token was not used before, where tokens count once.
func (j *jwtAuth) single(x *exchange.Exchange, v *verified) *exchange.Refusal {
	return j.uses(x, j.once, v.token.Text("iss"), v.token.Text("jti"), v.ends, j.refusals.of(token.Used))
}

// isTarget reports whether a proof is for this request: the same scheme, host and path. Query and fragment do not count, and
// ports only if both say one: between here and the caller may be who changes them.
func isTarget(x *exchange.Exchange, text string) bool {
	u, err := url.Parse(text)
	if err != nil || !strings.EqualFold(u.Scheme, x.Request.Scheme) || u.User != nil {
		return false
	}
	if host := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); host != strings.Trim(string(x.Request.Host), "[]") {
		return false
	}
	path, _, _ := strings.Cut(string(x.Request.RawTarget), "?")
	if escaped := u.EscapedPath(); escaped != "" {
		return escaped == path || escaped == string(x.Request.Path)
	}
	return path == "/"
}
