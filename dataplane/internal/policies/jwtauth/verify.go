package jwtauth

import (
	"slices"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/token"
	"keyward.dev/shared/check/jwk"
)

// verified is what came of verifying a token. It is never changed.
type verified struct {
	principal *exchange.Principal
	token     *token.Token
	ends      time.Time // zero: never
	key       *jwk.Key  // that it is signed with
	keys      *jwk.Set  // that had the key, if it was fetched
	set       *hostsvc.KeySet
	bound     *token.Bound // nil: to nothing that is to be proved
	epoch     uint64       // of the directory that the principal is from
}

// until is when it is to be forgotten.
func (v *verified) until(now time.Time) time.Time {
	until := now.Add(remembered)
	for _, end := range []time.Time{v.ends, v.principal.Expires} {
		if !end.IsZero() && end.Before(until) {
			until = end
		}
	}
	return until
}

// keysHold reports whether the keys are still those that had the key.
func (v *verified) keysHold(now time.Time) bool { return v.set == nil || v.set.Current(now) == v.keys }

// trust is whose keys count for a token, and under which rules.
type trust struct {
	rules      *token.Rules
	keys       []*jwk.Key
	set        *hostsvc.KeySet // nil: keys are what there is
	prompt     bool            // who asks must not wait
	algorithms []jwk.Algorithm
	credential *exchange.Credential
}

// verify verifies a token, of which more may be known already.
func (j *jwtAuth) verify(x *exchange.Exchange, raw []byte, known *verified) (*verified, *exchange.Refusal) {
	epoch := j.cache.Epoch(x.Directory)
	t, fault := (*token.Token)(nil), token.OK
	if known != nil {
		t = known.token
	} else if t, fault = token.Parse(slices.Clone(raw)); fault != token.OK {
		return nil, j.refusals.of(fault)
	}
	by, refusal := j.trusted(x, t)
	if refusal != nil {
		return nil, refusal
	}
	v := &verified{token: t, set: by.set, epoch: epoch}
	if refusal := j.signed(x, by, v, known); refusal != nil {
		return nil, refusal
	}
	if v.ends, fault = by.rules.Check(t, x.Timings.Received); fault != token.OK {
		return nil, j.refusals.of(fault)
	}
	if v.bound, fault = j.senders.bound(t); fault != token.OK {
		return nil, j.refusals.of(fault)
	}
	v.principal, refusal = j.caller(x, v, by.credential)
	return v, refusal
}

// trusted finds out whose keys count. What the token says of its issuer is not believed by that: it is to be shown by the key.
func (j *jwtAuth) trusted(x *exchange.Exchange, t *token.Token) (trust, *exchange.Refusal) {
	iss := t.Text("iss")
	if i := j.issuers[iss]; i != nil {
		return trust{rules: &i.rules, keys: i.keys, set: i.set, algorithms: publicOnly(j.algorithms)}, nil
	}
	if iss == "" {
		return trust{}, j.refusals.of(token.Issuer)
	}
	hash := exchange.NameHash(credentialType, []byte(iss))
	c, several := x.Directory.Identified(credentialType, &hash)
	switch {
	case several:
		return trust{}, j.refusals.of(ambiguous)
	case c == nil && !x.Directory.Complete(credentialType):
		return trust{}, j.refusals.unavailable // not to know is not to refuse
	case c == nil || !c.ValidAt(x.Timings.Received):
		return trust{}, j.refusals.of(token.Issuer)
	}
	own, ok := c.Material.(*token.OwnKey)
	if !ok {
		return trust{}, j.refusals.unavailable
	}
	by := trust{rules: &j.own, keys: own.Keys, algorithms: j.algorithms, credential: c}
	if own.Algorithm != "" {
		if !slices.Contains(j.algorithms, own.Algorithm) {
			return trust{}, j.refusals.of(token.Algorithm)
		}
		by.algorithms = []jwk.Algorithm{own.Algorithm}
	}
	if own.URL != "" {
		by.set, by.prompt = j.host.KeySets.Open(hostsvc.KeysAt(own.URL)), !j.waits
	}
	return by, nil
}

// publicOnly leaves out algorithms whose keys are secrets: issuers have none.
func publicOnly(list []jwk.Algorithm) []jwk.Algorithm {
	if !slices.ContainsFunc(list, jwk.Algorithm.Symmetric) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), jwk.Algorithm.Symmetric)
}

// signed finds the key that the token is signed with. A token that was verified already is not verified again if its key is
// still one of those that count.
func (j *jwtAuth) signed(x *exchange.Exchange, by trust, v, known *verified) *exchange.Refusal {
	keys := by.keys
	if by.set != nil {
		if v.keys = j.current(x, by); v.keys == nil {
			return j.refusals.keys
		}
		keys = v.keys.Keys
	}
	if known != nil && slices.Contains(by.algorithms, v.token.Algorithm) && slices.ContainsFunc(keys, known.key.Same) {
		v.key = known.key
		return nil
	}
	var fault token.Fault
	v.key, fault = v.token.Verify(keys, by.algorithms)
	if by.set != nil && lacks(v.token, fault) {
		return j.rotated(x, by, v)
	}
	if fault != token.OK {
		return j.refusals.of(fault)
	}
	return nil
}

// lacks reports whether another set might have the key: it is not there, or what is there has no names and is not it.
func lacks(t *token.Token, fault token.Fault) bool {
	return fault == token.NoKey || fault == token.Signature && t.KeyID == ""
}

func (j *jwtAuth) current(x *exchange.Exchange, by trust) *jwk.Set {
	if by.prompt {
		return by.set.Current(x.Timings.Received)
	}
	return by.set.Keys()
}

// rotated is for a token whose key the set does not have: it may have been added meanwhile. One that would not count with any
// key needs none.
func (j *jwtAuth) rotated(x *exchange.Exchange, by trust, v *verified) *exchange.Refusal {
	if !slices.Contains(by.algorithms, v.token.Algorithm) {
		return j.refusals.of(token.Algorithm)
	}
	if _, fault := by.rules.Check(v.token, x.Timings.Received); fault != token.OK {
		return j.refusals.of(fault)
	}
	newer, answer := j.newer(by, v)
	if newer == nil {
		return j.refusals.keys
	}
	var fault token.Fault
	v.keys = newer
	v.key, fault = v.token.Verify(newer.Keys, by.algorithms)
	switch {
	case fault == token.OK:
		return nil
	case !lacks(v.token, fault) || answer == hostsvc.KeyKnown:
		return j.refusals.of(fault)
	case answer == hostsvc.KeyLater:
		return j.refusals.later
	}
	return j.refusals.keys
}

// newer has the keys fetched again. Who must not wait has that done for the next time only.
func (j *jwtAuth) newer(by trust, v *verified) (*jwk.Set, hostsvc.KeyAnswer) {
	has := func(s *jwk.Set) bool {
		_, fault := v.token.Verify(s.Keys, by.algorithms)
		return fault == token.OK
	}
	if by.prompt {
		return by.set.Later(v.keys, v.token.KeyID, has)
	}
	return by.set.Newer(v.keys, v.token.KeyID, has)
}
