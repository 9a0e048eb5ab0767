package token

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"

	"keyward.dev/shared/check/jwk"
)

// Bound is what a token is bound to (RFC 7800): it counts only with a proof that the caller has it.
type Bound struct {
	// Thumbprint is that of the key that signs DPoP proofs (RFC 9449 section 6.1); empty: none.
	Thumbprint string
	// Certificate is the SHA-256 of the client's certificate (RFC 8705 section 3.1), if HasCertificate.
	Certificate    [sha256.Size]byte
	HasCertificate bool
}

// BoundTo reads what a token is bound to. A token that is bound to something else only cannot be proved here.
func BoundTo(t *Token) (b Bound, fault Fault) {
	v, has := t.Claims["cnf"]
	if !has {
		return b, OK
	}
	cnf, ok := v.(map[string]any)
	if !ok {
		return b, Confirmation
	}
	if v, has := cnf["jkt"]; has {
		if b.Thumbprint, ok = v.(string); !ok || b.Thumbprint == "" {
			return b, Confirmation
		}
	}
	if v, has := cnf["x5t#S256"]; has {
		text, _ := v.(string)
		sum, err := jwk.Bytes(text)
		if err != nil || len(sum) != len(b.Certificate) {
			return b, Confirmation
		}
		copy(b.Certificate[:], sum)
		b.HasCertificate = true
	}
	if b.Thumbprint == "" && !b.HasCertificate {
		return b, Confirmation
	}
	return b, OK
}

// Proof is a DPoP proof (RFC 9449 section 4.2) whose signature is that of the key it names.
type Proof struct {
	// Thumbprint is that of the key.
	Thumbprint string
	// ID, Method, URL, Token and Nonce are jti, htm, htu, ath and nonce.
	ID, Method, URL, Token, Nonce string
	Issued                        time.Time
}

// maxProofID is the longest jti.
const maxProofID = 256

// ParseProof reads and verifies a proof.
func ParseProof(raw []byte, allowed []jwk.Algorithm) (*Proof, Fault) {
	t, fault := Parse(raw)
	if fault != OK {
		return nil, fault
	}
	members, ok := t.Header["jwk"].(map[string]any)
	switch {
	case t.Type != "dpop+jwt":
		return nil, Type
	case !slices.Contains(allowed, t.Algorithm) || t.Algorithm.Symmetric():
		return nil, Algorithm
	case !ok:
		return nil, NoKey
	}
	key, err := jwk.FromMembers(members)
	if err != nil || !key.Permits(t.Algorithm) {
		return nil, NoKey
	}
	if !t.signedBy(key) {
		return nil, Signature
	}
	p := &Proof{ID: t.Text("jti"), Method: t.Text("htm"), URL: t.Text("htu"), Token: t.Text("ath"), Nonce: t.Text("nonce")}
	p.Thumbprint, _ = key.Thumbprint()
	if p.Issued, ok = date(t.Claims["iat"]); !ok || p.ID == "" || len(p.ID) > maxProofID || p.Method == "" || p.URL == "" {
		return nil, Malformed
	}
	return p, OK
}

// Hash is what ath is for a token.
func Hash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
