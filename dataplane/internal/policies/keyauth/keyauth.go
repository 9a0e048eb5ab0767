// Package keyauth enforces the key-auth policy: it identifies a consumer by an API key in a header field, query
// parameter or cookie, or in the body. It never sees stored keys; the directory of the exchange compares keyed hashes.
package keyauth

import (
	"errors"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/presented"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

const (
	credentialType = "key-auth"
	defaultHeader  = "X-API-Key"
	defaultRealm   = "keyward"
	// maxKeyBytes is the longest key admission accepts. Longer values are not hashed.
	maxKeyBytes = 512
)

type keyAuth struct {
	places    *presented.Places
	challenge exchange.Header
}

// The refusals, one per reason; callers are not told whether a key exists. The chain adds the challenges of every binding
// that would help.
var (
	refuseMissing     = exchange.NewRefusal(401, "unauthenticated", "This route needs an API key.").Absent()
	refuseInvalid     = exchange.NewRefusal(401, "unauthenticated", "The API key is not valid.")
	refuseSeveral     = exchange.NewRefusal(401, "unauthenticated", "The request presents more than one API key.")
	refuseUnavailable = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.")
)

// Build makes the policy.
func Build(cfg *policyv1.KeyAuth) (policy.Policy, error) {
	places := presented.Config{
		Header: cfg.GetHeader(), Query: cfg.GetQuery(), Cookie: cfg.GetCookie(), Body: cfg.GetBody(),
		MaxBody: int64(cfg.GetMaxBody()), Keep: cfg.HideCredentials != nil && !cfg.GetHideCredentials(),
	}
	if len(places.Header)+len(places.Query)+len(places.Cookie)+len(places.Body) == 0 {
		places.Header = []string{defaultHeader}
	}
	realm := cfg.GetRealm()
	if realm == "" {
		realm = defaultRealm
	}
	if strings.ContainsAny(realm, "\"\\\r\n") {
		return nil, errors.New("realm has characters that a quoted string cannot carry")
	}
	return &keyAuth{places: presented.New(places), challenge: exchange.Field("WWW-Authenticate", `ApiKey realm="`+realm+`"`)}, nil
}

// Request implements policy.Policy.
func (k *keyAuth) Request(x *exchange.Exchange) policy.Verdict {
	key, ok := k.presented(x)
	if !ok {
		return policy.Stop
	}
	if x.Directory == nil {
		x.Refuse(refuseUnavailable)
		return policy.Stop
	}
	if len(key) > maxKeyBytes {
		x.Refuse(refuseInvalid)
		return policy.Stop
	}
	c := x.Directory.Credential(credentialType, key)
	if c == nil && !x.Directory.Complete(credentialType) {
		x.Refuse(refuseUnavailable) // not to know is not to refuse
		return policy.Stop
	}
	if c == nil || !c.ValidAt(x.Timings.Received) {
		x.Refuse(refuseInvalid)
		return policy.Stop
	}
	x.Principal = c.Principal
	return policy.Next
}

// presented returns the one key the request presents; ok is false after it has refused the request.
func (k *keyAuth) presented(x *exchange.Exchange) (key []byte, ok bool) {
	f := k.places.Find(x)
	switch f.Outcome {
	case presented.None:
		x.Refuse(refuseMissing)
	case presented.Several:
		x.Refuse(refuseSeveral)
	case presented.One, presented.Unread:
	}
	return f.Value, f.Outcome == presented.One
}

// Hide implements policy.Hider.
func (k *keyAuth) Hide(x *exchange.Exchange) { k.places.Hide(x) }

// CredentialFields implements policy.Bearer.
func (k *keyAuth) CredentialFields() []string { return k.places.Fields() }

// Invalid implements policy.Uniform.
func (k *keyAuth) Invalid() *exchange.Refusal { return refuseInvalid }

// Challenge implements policy.Challenger.
func (k *keyAuth) Challenge() exchange.Header { return k.challenge }
