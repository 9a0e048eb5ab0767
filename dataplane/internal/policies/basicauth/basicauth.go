// Package basicauth enforces the basic-auth policy: it identifies a consumer by user name and password in the
// Authorization field (RFC 7617). A user who does not exist goes the same way as a wrong password, and takes as long.
package basicauth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/password"
)

const (
	credentialType = "basic-auth"
	field          = "Authorization"
	defaultRealm   = "keyward"
	defaultTTL     = 5 * time.Minute
	maxTTL         = time.Hour
)

type basicAuth struct {
	hide      bool
	challenge exchange.Header
	ttl       time.Duration
	// mark is the time in what is remembered: a binding does not use what another one remembers for longer.
	mark   []byte
	guard  *hostsvc.Guard
	logins *hostsvc.Logins
	nobody *password.Hash
}

// Build makes the policy.
func Build(cfg *policyv1.BasicAuth, d policy.Deps) (policy.Policy, error) {
	b := &basicAuth{hide: cfg.HideCredentials == nil || cfg.GetHideCredentials(), ttl: defaultTTL, logins: d.Host.Logins}
	realm := cfg.GetRealm()
	if realm == "" {
		realm = defaultRealm
	}
	if strings.ContainsAny(realm, "\"\\\r\n") {
		return nil, errors.New("realm has characters that a quoted string cannot carry")
	}
	b.challenge = exchange.Field("WWW-Authenticate", `Basic realm="`+realm+`", charset="UTF-8"`)
	if cfg.GetCacheTtl() != nil {
		b.ttl = cfg.GetCacheTtl().AsDuration()
	}
	if b.ttl < 0 || b.ttl > maxTTL {
		return nil, fmt.Errorf("cache_ttl %s is not between 0 and %s", b.ttl, maxTTL)
	}
	b.mark = binary.BigEndian.AppendUint64(nil, uint64(b.ttl))
	limits, err := limitsOf(cfg.GetBruteForce())
	if err != nil {
		return nil, err
	}
	b.guard = b.logins.Guard.Bind(credentialType, limits)
	b.nobody = password.Decoy()
	return b, nil
}

// limitsOf fills in what is left out. Without protection there is still something to bound: nothing that a gateway reaches.
func limitsOf(cfg *policyv1.BruteForce) (hostsvc.GuardLimits, error) {
	const unbounded, window = 1e9, 5 * time.Minute
	l := hostsvc.GuardLimits{Pair: 5, Address: 50, Account: 50, Window: window}
	if cfg != nil && cfg.Enabled != nil && !cfg.GetEnabled() {
		return hostsvc.GuardLimits{Pair: unbounded, Address: unbounded, Account: unbounded, Window: window}, nil
	}
	for given, limit := range map[uint32]*uint64{cfg.GetFailures(): &l.Pair, cfg.GetAddressFailures(): &l.Address, cfg.GetAccountFailures(): &l.Account} {
		if given > 0 {
			*limit = uint64(given)
		}
	}
	if cfg.GetWindow() != nil {
		l.Window = cfg.GetWindow().AsDuration()
	}
	if l.Window < time.Second || l.Window > 24*time.Hour {
		return l, fmt.Errorf("brute_force.window %s is out of range", l.Window)
	}
	return l, nil
}

// Waits implements policy.Waiter: for its turn to compute a hash, some seconds at most.
func (*basicAuth) Waits() {}

// Request implements policy.Policy.
func (b *basicAuth) Request(x *exchange.Exchange) policy.Verdict {
	if refusal := b.login(x); refusal != nil {
		x.Refuse(refusal)
		return policy.Stop
	}
	return policy.Next
}

// login is a try to log in.
type login struct {
	presented
	credential *exchange.Credential // nil: there is none
	hash       *password.Hash       // of the credential, or of nobody
	attempt    hostsvc.Attempt
	proof      hostsvc.Proof
	now        time.Time
}

// login returns nil if the request may go on, with its principal set.
func (b *basicAuth) login(x *exchange.Exchange) *exchange.Refusal {
	l := login{now: x.Timings.Received}
	if refusal := l.read(x); refusal != nil {
		return refusal
	}
	if refusal := b.find(x, &l); refusal != nil {
		return refusal
	}
	b.guard.Begin(&l.attempt, x.Alloc(hostsvc.AttemptRoom+len(l.user)), l.user, x.Request.ClientIP, l.now)
	if wait := l.attempt.Wait(); wait > 0 { // before it can be told that the password is right
		return tooMany(wait)
	}
	b.logins.Verified.Proof(&l.proof, l.hash.Bytes(), b.mark, l.user, l.password)
	if b.ttl == 0 || !b.logins.Verified.Has(&l.proof, l.now) {
		if refusal := b.verify(l); refusal != nil {
			return refusal
		}
	}
	if l.credential == nil || !l.credential.ValidAt(l.now) {
		return refuseInvalid
	}
	x.Principal = l.credential.Principal
	return nil
}

// find looks up whose password it has to be.
func (b *basicAuth) find(x *exchange.Exchange, l *login) *exchange.Refusal {
	if x.Directory == nil {
		return refuseUnavailable
	}
	name := exchange.NameHash(credentialType, l.user)
	c, several := x.Directory.Identified(credentialType, (*[32]byte)(x.Copy(name[:]))) // where it costs no allocation
	switch {
	case c == nil && !several && !x.Directory.Complete(credentialType):
		return refuseUnavailable // not to know is not to refuse
	case c == nil:
		b.logins.Verified.Proof(&l.proof, l.user)
		l.hash = decoy(x.Directory, &l.proof, b.nobody)
		return nil
	}
	l.credential = c
	var ok bool
	if l.hash, ok = c.Material.(*password.Hash); !ok {
		return refuseUnavailable
	}
	return nil
}

// verify computes the hash, once for all that ask the same now. It takes a copy, which it may keep beyond the stack.
func (b *basicAuth) verify(l login) *exchange.Refusal {
	got := b.logins.Flights.Do(&l.proof, func() hostsvc.Landing { return b.compute(&l) })
	switch {
	case got.Wait > 0:
		return tooMany(got.Wait)
	case !got.Known:
		return refuseBusy
	case !got.Right:
		return refuseInvalid
	}
	return nil
}

// right computes the hash. Requests go first.
func (l *login) right(w *hostsvc.Workers) bool {
	pause := hostsvc.NewPause(w.Pressed)
	defer pause.Close()
	return l.hash.Verify(l.password, pause.Take)
}

func (b *basicAuth) compute(l *login) hostsvc.Landing {
	if b.ttl > 0 && b.logins.Verified.Has(&l.proof, l.now) { // found out meanwhile
		return hostsvc.Landing{Known: true, Right: true}
	}
	if wait := l.attempt.Take(); wait > 0 {
		return hostsvc.Landing{Wait: wait}
	}
	right := false
	if !b.logins.Workers.Do(l.attempt.Flow(), func() { right = l.right(b.logins.Workers) }) {
		l.attempt.Unsure(&l.proof)
		return hostsvc.Landing{}
	}
	if right = right && l.credential != nil && l.credential.ValidAt(l.now); right {
		l.attempt.Right()
		if b.ttl > 0 {
			b.logins.Verified.Put(&l.proof, l.now.Add(b.ttl))
		}
	}
	return hostsvc.Landing{Known: true, Right: right}
}

// Hide implements policy.Hider. What is in the field for another scheme is another policy's.
func (b *basicAuth) Hide(x *exchange.Exchange) {
	if !b.hide {
		return
	}
	h := &x.Request.Header
	for i := h.Index(field, 0); i >= 0; i = h.Index(field, i) {
		if _, ok := basic((*h)[i].Value); !ok {
			i++
			continue
		}
		h.DelAt(i)
	}
}

// CredentialFields implements policy.Bearer.
func (*basicAuth) CredentialFields() []string { return []string{field} }

// Invalid implements policy.Uniform.
func (*basicAuth) Invalid() *exchange.Refusal { return refuseInvalid }

// Challenge implements policy.Challenger.
func (b *basicAuth) Challenge() exchange.Header { return b.challenge }
