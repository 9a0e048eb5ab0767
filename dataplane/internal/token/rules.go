package token

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Rules are what the claims of a token are held against. Zero values ask for nothing but that the times that are there hold.
type Rules struct {
	// Issuer is what iss must be; empty: it is not looked at.
	Issuer string
	// Audiences are of which aud must name one; none: it is not looked at.
	Audiences []string
	// Subjects are of which sub must be one; none: it is not looked at.
	Subjects []string
	// Leeway is by how much clocks may differ.
	Leeway time.Duration
	// Expires says that tokens must have an end.
	Expires bool
	// MaxLifetime is the longest time from iat, or from now without it, to exp; 0: any.
	MaxLifetime time.Duration
	// AccessToken asks for an access token of RFC 9068.
	AccessToken bool
	// ID asks for a jti, by which a token is told from others of its issuer.
	ID bool
	// Required are claims that must be there.
	Required []string
	// Claims are more rules about single claims.
	Claims []ClaimRule
}

// Match says how a claim is compared.
type Match uint8

// The ways. A claim that is a list, or for Contains a text of words, has several values.
const (
	// Present: it is there and not null.
	Present Match = iota
	// Equals: it is one value, and one of those allowed.
	Equals
	// Contains: one of its values is one of those allowed.
	Contains
	// ContainsAll: each of those allowed is one of its values.
	ContainsAll
	// Absent: it is not there.
	Absent
)

// ClaimRule is a rule about one claim. The claim may be in others: realm_access.roles.
type ClaimRule struct {
	Name   string
	Match  Match
	Values []string
}

// Check holds the claims against the rules at a time. Until is when the token ends, leeway included; zero: never.
func (r *Rules) Check(t *Token, now time.Time) (until time.Time, fault Fault) {
	if fault := r.checkType(t); fault != OK {
		return time.Time{}, fault
	}
	if iss, ok := t.Claims["iss"].(string); r.Issuer != "" && (!ok || iss != r.Issuer) {
		return time.Time{}, Issuer
	}
	if sub, ok := t.Claims["sub"].(string); len(r.Subjects) > 0 && (!ok || !slices.Contains(r.Subjects, sub)) {
		return time.Time{}, Subject
	}
	if fault := r.checkAudience(t.Claims["aud"]); fault != OK {
		return time.Time{}, fault
	}
	if r.ID && t.Text("jti") == "" {
		return time.Time{}, NoID
	}
	until, fault = r.checkTimes(t, now)
	if fault == OK {
		fault = r.checkClaims(t)
	}
	return until, fault
}

// checkType keeps tokens for something else out. RFC 8725 section 3.11: an ID token, a logout token or a proof is no access
// token even if all else fits; that is known by typ, and without it by claims that only those have.
func (r *Rules) checkType(t *Token) Fault {
	typ := strings.TrimPrefix(strings.ToLower(t.Type), "application/")
	if r.AccessToken {
		if typ != "at+jwt" {
			return Type
		}
		for _, name := range []string{"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} { // RFC 9068 section 2.2
			if _, has := t.Claims[name]; !has {
				return Type
			}
		}
		return OK
	}
	if typ != "" && typ != "jwt" && typ != "at+jwt" {
		return Type
	}
	for _, name := range []string{"at_hash", "c_hash", "events"} {
		if _, has := t.Claims[name]; has {
			return Type
		}
	}
	switch t.Claims["typ"] { // how Keycloak tells its tokens apart; its ID tokens may come without the hashes
	case "ID", "Refresh", "Offline", "Logout":
		return Type
	}
	return OK
}

// checkAudience takes a text or a list of texts (RFC 7519 section 4.1.3); whatever else is none.
func (r *Rules) checkAudience(aud any) Fault {
	if len(r.Audiences) == 0 {
		return OK
	}
	switch aud := aud.(type) {
	case string:
		if slices.Contains(r.Audiences, aud) {
			return OK
		}
	case []any:
		found := false
		for _, v := range aud {
			s, ok := v.(string)
			if !ok {
				return Audience
			}
			found = found || slices.Contains(r.Audiences, s)
		}
		if found {
			return OK
		}
	}
	return Audience
}

func (r *Rules) checkTimes(t *Token, now time.Time) (until time.Time, fault Fault) {
	var at [3]time.Time
	for i, name := range []string{"exp", "nbf", "iat"} {
		v, has := t.Claims[name]
		if !has {
			continue
		}
		var ok bool
		if at[i], ok = date(v); !ok {
			return time.Time{}, Malformed
		}
	}
	exp, nbf, iat := at[0], at[1], at[2]
	switch {
	case exp.IsZero() && (r.Expires || r.MaxLifetime > 0 || r.AccessToken):
		return time.Time{}, NoExpiry
	case !exp.IsZero() && !now.Before(exp.Add(r.Leeway)):
		return time.Time{}, Expired
	case !nbf.IsZero() && now.Add(r.Leeway).Before(nbf):
		return time.Time{}, TooEarly
	case !iat.IsZero() && now.Add(r.Leeway).Before(iat):
		return time.Time{}, FromFuture
	}
	if r.MaxLifetime > 0 {
		from := iat
		if from.IsZero() {
			from = now
		}
		if exp.Sub(from) > r.MaxLifetime {
			return time.Time{}, TooLong
		}
	}
	if exp.IsZero() {
		return time.Time{}, OK
	}
	return exp.Add(r.Leeway), OK
}

// date reads a NumericDate (RFC 7519 section 2) between 1970 and 9999; fractions are allowed.
func date(v any) (time.Time, bool) {
	const most = 253402300799
	switch v := v.(type) {
	case int64:
		return time.Unix(v, 0), 0 <= v && v <= most
	case float64:
		if !(v >= 0 && v <= most) { // also when it is no number
			return time.Time{}, false
		}
		whole, part := math.Modf(v)
		return time.Unix(int64(whole), int64(part*1e9)), true
	}
	return time.Time{}, false
}
