// Package token reads and verifies JSON Web Tokens in their compact form (RFC 7515, 7519, 8725): what a token says is parsed
// strictly, its signature is verified with keys that say themselves what they are for, and its claims are held against rules.
//
// It is pure: it fetches nothing, keeps nothing and knows no configuration. Keys come from package jwk, the time from the
// caller. The standard library does the cryptography; what makes a JOSE implementation safe is what is refused before and after
// that, which is why it is here, for all policies, and not in a library that would have to be talked out of its leniency.
package token

import (
	"bytes"

	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/check/strictjson"
)

// MaxBytes is the longest token that is looked at.
const MaxBytes = 16 << 10

// maxKeyID is the longest kid. It is only ever compared with those of known keys.
const maxKeyID = 256

// Fault is why a token does not count, as a stable word for logs. Callers of the gateway are not told more than that their
// token is not valid.
type Fault string

// The faults. The empty one is none.
const (
	OK           Fault = ""
	Malformed    Fault = "token_malformed"
	Algorithm    Fault = "token_algorithm"
	Critical     Fault = "token_critical_header"
	NoKey        Fault = "token_key_unknown"
	Signature    Fault = "token_signature"
	Type         Fault = "token_type"
	Issuer       Fault = "token_issuer"
	Audience     Fault = "token_audience"
	Subject      Fault = "token_subject"
	Expired      Fault = "token_expired"
	NoExpiry     Fault = "token_without_expiry"
	TooEarly     Fault = "token_not_yet_valid"
	FromFuture   Fault = "token_issued_in_the_future"
	TooLong      Fault = "token_lifetime"
	Claim        Fault = "token_claim"
	Confirmation Fault = "token_sender"
	NoID         Fault = "token_without_id"
	Used         Fault = "token_used"
)

// Token is a parsed token of which nothing may be believed before Verify.
type Token struct {
	// Header and Claims are all members; they are never changed.
	Header, Claims map[string]any
	// Algorithm, KeyID and Type are those of the header.
	Algorithm jwk.Algorithm
	KeyID     string
	Type      string

	signed, signature []byte
}

// Parse takes a token apart. What it returns points into raw.
func Parse(raw []byte) (*Token, Fault) {
	if len(raw) > MaxBytes {
		return nil, Malformed
	}
	first := bytes.IndexByte(raw, '.')
	last := bytes.LastIndexByte(raw, '.')
	if first <= 0 || last <= first || bytes.IndexByte(raw[first+1:last], '.') >= 0 {
		return nil, Malformed
	}
	t := &Token{signed: raw[:last]}
	var ok bool
	if t.Header, ok = object(raw[:first]); !ok {
		return nil, Malformed
	}
	if fault := t.head(); fault != OK {
		return nil, fault
	}
	if t.Claims, ok = object(raw[first+1 : last]); !ok {
		return nil, Malformed
	}
	var err error
	if t.signature, err = jwk.Bytes(string(raw[last+1:])); err != nil || len(t.signature) == 0 {
		return nil, Malformed
	}
	return t, OK
}

func object(part []byte) (map[string]any, bool) {
	b, err := jwk.Bytes(string(part))
	if err != nil {
		return nil, false
	}
	o, err := strictjson.Object(b)
	return o, err == nil
}

// head reads the header. Keys and addresses of keys in it (jwk, jku, x5u, x5c) are not looked at: who signs must not say whom
// to believe. Extensions that must be understood are not (crit), a payload that is not encoded is none (b64, RFC 7797), nor is
// one that is compressed (zip) or encrypted (enc).
func (t *Token) head() Fault {
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, has := t.Header[name]; has {
			return Critical
		}
	}
	alg, ok := t.Header["alg"].(string)
	if t.Algorithm = jwk.Algorithm(alg); !ok || !t.Algorithm.Known() {
		return Algorithm
	}
	if v, has := t.Header["kid"]; has {
		if t.KeyID, ok = v.(string); !ok || len(t.KeyID) > maxKeyID {
			return Malformed
		}
	}
	if v, has := t.Header["typ"]; has {
		if t.Type, ok = v.(string); !ok {
			return Malformed
		}
	}
	return OK
}

// Text returns a claim that is a string; empty if it is none.
func (t *Token) Text(claim string) string {
	s, _ := t.Claims[claim].(string)
	return s
}

// Faults lists all faults.
func Faults() []Fault {
	return []Fault{
		Malformed, Algorithm, Critical, NoKey, Signature, Type, Issuer, Audience, Subject, Expired, NoExpiry, TooEarly, FromFuture,
		TooLong, Claim, Confirmation, NoID, Used,
	}
}
