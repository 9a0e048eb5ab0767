// Package jwtsigner enforces the jwt-signer policy: it tells upstreams who calls in a token that the gateway signs, in a header
// field that callers cannot write. What was signed is remembered in hostsvc; package token signs.
package jwtsigner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/jwk"
)

const (
	defaultHeader   = "Authorization"
	defaultLifetime = time.Minute
	minLifetime     = 5 * time.Second
)

var (
	refuseUnknown = exchange.NewRefusal(401, "unauthenticated", "This route needs an identified caller.")
	refuseNobody  = exchange.NewRefusal(403, "forbidden", "The caller is no consumer.").Because("no_consumer")
	refuseBusy    = exchange.NewRefusal(503, "unavailable", "Too many tokens wait to be signed.", exchange.Field("Retry-After", "1")).Because("signing_busy")
	refuseBroken  = exchange.NewRefusal(500, "internal", "The gateway could not process the request.").Because("signing_failed")
)

type jwtSigner struct {
	signer *token.Signer
	host   *hostsvc.Signing
	cache  *hostsvc.TokenCache
	claims claims
	field  []byte
	name   string // of the field
	folded string // its name in the form in which those are equal that servers may take for one
	scheme string
	life   time.Duration
	pass   bool // callers whom nobody has identified
}

// waiting is the policy with a key that takes long to sign, for which requests wait for their turn.
type waiting struct{ *jwtSigner }

// Waits implements policy.Waiter.
func (waiting) Waits() {}

// Build makes the policy.
func Build(cfg *policyv1.JwtSigner, d policy.Deps) (policy.Policy, error) {
	j := &jwtSigner{host: d.Host.Signing, name: cfg.GetHeader(), life: defaultLifetime}
	if j.name == "" {
		j.name = defaultHeader
	}
	if strings.EqualFold(j.name, defaultHeader) {
		j.scheme = "Bearer "
	}
	j.field, j.folded = []byte(j.name), check.FoldField(j.name)
	if cfg.Lifetime != nil {
		j.life = cfg.GetLifetime().AsDuration()
	}
	if j.life < minLifetime {
		return nil, fmt.Errorf("lifetime is shorter than %v", minLifetime)
	}
	switch cfg.GetAnonymous() {
	case policyv1.JwtSignerAnonymous_JWT_SIGNER_ANONYMOUS_UNSPECIFIED, policyv1.JwtSignerAnonymous_JWT_SIGNER_ANONYMOUS_REFUSE:
	case policyv1.JwtSignerAnonymous_JWT_SIGNER_ANONYMOUS_PASS:
		j.pass = true
	default:
		return nil, errors.New("anonymous is not known")
	}
	var err error
	if j.claims, err = claimsOf(cfg); err != nil {
		return nil, err
	}
	if err := j.withKey(cfg, d); err != nil {
		return nil, err
	}
	if j.signer.Slow() {
		return waiting{j}, nil
	}
	return j, nil
}

// withKey takes the key of the version in use. What was signed with another one is not found any more.
func (j *jwtSigner) withKey(cfg *policyv1.JwtSigner, d policy.Deps) error {
	versions, err := d.Group.Certificate(cfg.GetCertificate())
	if err != nil {
		return err
	}
	v := versions[0]
	if v.Key == nil {
		return fmt.Errorf("certificate %s has no private key", cfg.GetCertificate())
	}
	alg := jwk.RS256
	switch cfg.GetRsaAlgorithm() {
	case "", string(jwk.RS256):
	case string(jwk.PS256):
		alg = jwk.PS256
	default:
		return errors.New("rsa_algorithm is not known")
	}
	if j.signer, err = token.NewSigner(v.Key, v.ID, alg); err != nil {
		return fmt.Errorf("certificate %s: %w", cfg.GetCertificate(), err)
	}
	scope, err := (proto.MarshalOptions{Deterministic: true}).Marshal(cfg)
	if err != nil {
		return errors.New("its config cannot be written")
	}
	b := d.Binding
	j.cache = j.host.Tokens.Bind(b.Type, b.Name, b.OwnerKind, b.OwnerUID, string(scope), v.ID)
	return nil
}

// Request implements policy.Policy.
func (j *jwtSigner) Request(x *exchange.Exchange) policy.Verdict {
	j.removeClaimed(&x.Request.Header)
	p := x.Principal
	switch {
	case (p == nil || p.Kind == exchange.KindAnonymous) && j.pass:
		return policy.Next
	case p == nil || p.Kind == exchange.KindAnonymous:
		return refuse(x, refuseUnknown)
	case j.claims.consumers && p.Consumer == "":
		return refuse(x, refuseNobody)
	}
	s, refusal := j.token(x)
	if refusal != nil {
		return refuse(x, refusal)
	}
	x.Request.Header.Add(exchange.Header{Name: j.field, Value: s.value})
	x.Minted = j.name
	return policy.Next
}

func refuse(x *exchange.Exchange, r *exchange.Refusal) policy.Verdict {
	x.Refuse(r)
	return policy.Stop
}

// removeClaimed removes what a client says in the token's field, or in one that servers may take for it.
func (j *jwtSigner) removeClaimed(h *exchange.Headers) {
	for i := range slices.Backward(*h) {
		if check.FoldsTo((*h)[i].Name, j.folded) {
			h.DelAt(i)
		}
	}
}

// signed is a token for somebody.
type signed struct {
	// of is who it speaks of. As long as it is remembered nobody else can have the same place in memory.
	of *exchange.Principal
	// bound is when the credentials end by which the caller came; zero: never.
	bound time.Time
	value []byte
}

// token returns the caller's token, a remembered one if most of its life is not over.
func (j *jwtSigner) token(x *exchange.Exchange) (*signed, *exchange.Refusal) {
	key, bound := j.cache.Numbered(hostsvc.Number(j.host, x.Principal)), bound(x)
	if s := j.remembered(x, &key, bound); s != nil {
		return s, nil
	}
	if !j.signer.Slow() {
		return j.sign(x, &key, bound)
	}
	var s *signed
	var refusal *exchange.Refusal
	turn := j.host.Turns.Do(j.host.Flow(x.Principal.ConsumerUID+" "+x.Principal.Subject()), func() {
		if s = j.remembered(x, &key, bound); s == nil { // somebody else's turn may have been for the same
			s, refusal = j.sign(x, &key, bound)
		}
	})
	if !turn {
		return nil, refuseBusy
	}
	return s, refusal
}

func (j *jwtSigner) remembered(x *exchange.Exchange, key *hostsvc.TokenKey, bound time.Time) *signed {
	s, _ := j.cache.Get(key, x.Timings.Received).(*signed)
	if s == nil || s.of != x.Principal || !s.bound.Equal(bound) {
		return nil
	}
	return s
}

// bound returns when the first of the credentials ends by which the caller came.
func bound(x *exchange.Exchange) time.Time {
	first := x.Principal.Expires
	for _, p := range x.Proofs {
		if e := p.Expires; !e.IsZero() && (first.IsZero() || e.Before(first)) {
			first = e
		}
	}
	return first
}

// sign makes a token and remembers it until a fifth of its life is left.
func (j *jwtSigner) sign(x *exchange.Exchange, key *hostsvc.TokenKey, bound time.Time) (*signed, *exchange.Refusal) {
	now := x.Timings.Received
	ends := now.Add(j.life)
	if !bound.IsZero() && bound.Before(ends) {
		ends = bound
	}
	raw, err := j.signer.Sign(j.claims.of(x.Principal, now, ends))
	if err != nil {
		return nil, refuseBroken
	}
	s := &signed{of: x.Principal, bound: bound, value: append([]byte(j.scheme), raw...)}
	// exp has whole seconds: what is left of them counts.
	left := ends.Truncate(time.Second).Sub(now)
	const part = 5
	j.cache.Put(key, s, now.Add(left-left/part), len(s.value))
	return s, nil
}
