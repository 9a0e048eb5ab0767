// Package keyauth enforces the key-auth policy: it identifies a consumer by an API key in a header field, query
// parameter or cookie. It never sees stored keys; the directory of the exchange compares keyed hashes.
package keyauth

import (
	"bytes"
	"errors"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
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
	headers, query, cookies []string
	hide                    bool
	challenge               exchange.Header
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
func Build(cfg *policyv1.KeyAuth, _ policy.Deps) (policy.Policy, error) {
	k := &keyAuth{
		headers: cfg.GetHeader(), query: cfg.GetQuery(), cookies: cfg.GetCookie(),
		hide: cfg.HideCredentials == nil || cfg.GetHideCredentials(),
	}
	if len(k.headers)+len(k.query)+len(k.cookies) == 0 {
		k.headers = []string{defaultHeader}
	}
	realm := cfg.GetRealm()
	if realm == "" {
		realm = defaultRealm
	}
	if strings.ContainsAny(realm, "\"\\\r\n") {
		return nil, errors.New("realm has characters that a quoted string cannot carry")
	}
	k.challenge = exchange.Field("WWW-Authenticate", `ApiKey realm="`+realm+`"`)
	return k, nil
}

// Request implements policy.Policy.
func (k *keyAuth) Request(x *exchange.Exchange) policy.Verdict {
	key, refusal := k.presented(x)
	if refusal != nil {
		x.Refuse(refusal)
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
	if c == nil && !x.Directory.Complete() {
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

// presented is the key found so far.
type presented struct {
	key     []byte
	found   bool
	several bool
}

// add takes a key from another place; again says that this place holds more than one.
func (p *presented) add(key []byte, again bool) {
	p.several = p.several || again || p.found && !bytes.Equal(key, p.key)
	p.key, p.found = key, true
}

// presented returns the one key the request presents. A key repeated in one place, even the same, is refused: which of
// them another server looks at is anybody's guess. The same key in different places is one key.
func (k *keyAuth) presented(x *exchange.Exchange) ([]byte, *exchange.Refusal) {
	var p presented
	h := x.Request.Header
	for _, name := range k.headers {
		if i := h.Index(name, 0); i >= 0 {
			p.add(h[i].Value, h.Index(name, i+1) >= 0)
		}
	}
	for _, name := range k.query {
		if v, next, ok := x.NextQuery(name, 0); ok {
			_, _, again := x.NextQuery(name, next)
			p.add(v, again)
		}
	}
	for _, name := range k.cookies {
		if v, next, ok := x.NextCookie(name, exchange.CookiePos{}); ok {
			_, _, again := x.NextCookie(name, next)
			p.add(v, again)
		}
	}
	switch {
	case p.several:
		return nil, refuseSeveral
	case len(p.key) == 0:
		return nil, refuseMissing
	}
	return p.key, nil
}

// Hide implements policy.Hider.
func (k *keyAuth) Hide(x *exchange.Exchange) {
	if !k.hide {
		return
	}
	for _, name := range k.headers {
		x.Request.Header.Del(name)
	}
	for _, name := range k.query {
		x.RemoveQuery(name)
	}
	for _, name := range k.cookies {
		x.RemoveCookie(name)
	}
}

// CredentialFields implements policy.Bearer.
func (k *keyAuth) CredentialFields() []string { return k.headers }

// Invalid implements policy.Uniform.
func (k *keyAuth) Invalid() *exchange.Refusal { return refuseInvalid }

// Challenge implements policy.Challenger.
func (k *keyAuth) Challenge() exchange.Header { return k.challenge }
