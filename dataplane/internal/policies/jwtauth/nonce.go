package jwtauth

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"keyward.dev/dataplane/internal/exchange"
)

const (
	// nonceAge is for how long a nonce counts.
	nonceAge = 5 * time.Minute
	// nonceSkew is by how much the clocks of gateways may differ.
	nonceSkew = time.Minute

	nonceTime = 8  // bytes that say when it was made
	nonceMAC  = 16 // bytes that only a gateway of the group can make

	noncePurpose = "dpop nonce"
)

// keyed makes keyed hashes that are the same at every gateway of the group. The directory does.
type keyed interface {
	Derived(purpose string, message []byte) ([32]byte, bool)
	IsDerived(purpose string, message, sum []byte) bool
}

// nonce makes the nonce of a moment (RFC 9449 section 8): nothing of it is kept, and every gateway of the group takes it.
func nonce(d exchange.Directory, now time.Time) (string, bool) {
	k, ok := d.(keyed)
	if !ok {
		return "", false
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceTime+nonceMAC), uint64(now.Unix()))
	sum, ok := k.Derived(noncePurpose, b)
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:nonceMAC]...)), ok
}

// isNonce reports whether a gateway of the group has made this lately.
func isNonce(d exchange.Directory, text string, now time.Time) bool {
	k, ok := d.(keyed)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(nonceTime+nonceMAC) {
		return false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return false
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(b[:nonceTime])), 0)
	return !made.Before(now.Add(-nonceAge)) && !made.After(now.Add(nonceSkew)) && k.IsDerived(noncePurpose, b[:nonceTime], b[nonceTime:])
}

// hasNonce returns nil if the proof has a nonce that counts, or what the caller is to do.
func (j *jwtAuth) hasNonce(x *exchange.Exchange, text string) *exchange.Refusal {
	if isNonce(x.Directory, text, x.Timings.Received) {
		return nil
	}
	fresh, ok := nonce(x.Directory, x.Timings.Received)
	if !ok {
		return j.refusals.unavailable
	}
	return exchange.NewRefusal(401, "unauthenticated", "The proof that the token is the caller's needs the nonce in DPoP-Nonce.",
		exchange.Field("WWW-Authenticate", `DPoP realm="`+j.refusals.realm+`", error="use_dpop_nonce"`), exchange.Field("DPoP-Nonce", fresh)).Because("token_proof_nonce")
}
