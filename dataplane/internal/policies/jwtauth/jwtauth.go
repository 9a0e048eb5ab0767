// Package jwtauth enforces the jwt-auth policy: it identifies callers by JSON Web Tokens. Package token says what a token is
// worth, hostsvc keeps the keys of issuers and remembers what was verified; here it is decided whose keys count for a token,
// what it must say, and who the caller is then.
package jwtauth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/presented"
	"keyward.dev/dataplane/internal/token"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/jwk"
)

const (
	credentialType = "jwt-auth"
	defaultHeader  = "Authorization"
	defaultRealm   = "keyward"
	// remembered is for how long a token is at most remembered that has no end, or a far one.
	remembered = time.Hour
)

type jwtAuth struct {
	places     *presented.Places
	keep       bool
	host       *hostsvc.Services
	cache      *hostsvc.TokenCache
	issuers    map[string]*issuer
	waits      bool // for keys of issuers, or for a store
	algorithms []jwk.Algorithm
	own        token.Rules // of tokens that consumers sign
	callers    callers
	senders    senders
	once       *hostsvc.Proofs // of tokens that count once; nil: they count until they end
	refusals   refusals
}

// waiting is the policy with issuers whose keys are fetched, for which the first request may wait, or with a store, for which
// what counts once does.
type waiting struct{ *jwtAuth }

// Waits implements policy.Waiter.
func (waiting) Waits() {}

// Build makes the policy.
func Build(cfg *policyv1.JwtAuth, d policy.Deps) (policy.Policy, error) {
	realm := cfg.GetRealm()
	if realm == "" {
		realm = defaultRealm
	}
	if strings.ContainsAny(realm, "\"\\\r\n") {
		return nil, errors.New("realm has characters that a quoted string cannot carry")
	}
	rules, err := rulesOf(cfg)
	if err != nil {
		return nil, err
	}
	j := &jwtAuth{
		places: placesOf(cfg), keep: cfg.HideCredentials != nil && !cfg.GetHideCredentials(), host: d.Host, issuers: map[string]*issuer{}, own: rules, refusals: newRefusals(realm),
		algorithms: jwk.Default(),
	}
	if j.callers, err = callersOf(cfg); err != nil {
		return nil, err
	}
	if list := cfg.GetAlgorithms(); len(list) > 0 {
		j.algorithms = nil
		for _, name := range list {
			a := jwk.Algorithm(name)
			if !a.Known() {
				return nil, fmt.Errorf("algorithm %q is not known", name)
			}
			j.algorithms = append(j.algorithms, a)
		}
	}
	shared, err := sharedUses(cfg, d.Group)
	if err != nil {
		return nil, err
	}
	j.waits = shared != nil
	if j.senders, err = sendersOf(cfg, j.algorithms, d.Host.Proofs.Through("proof", shared)); err != nil {
		return nil, err
	}
	if cfg.GetOneTime() {
		if cfg.RequireExpiry != nil && !cfg.GetRequireExpiry() {
			return nil, errors.New("one_time needs tokens that end")
		}
		j.once = d.Host.Once.Through("token", shared)
	}
	if err := j.addIssuers(cfg, rules, d.Group); err != nil {
		return nil, err
	}
	scope, err := j.scope(cfg)
	if err != nil {
		return nil, err
	}
	b := d.Binding
	j.cache = d.Host.Tokens.Bind(b.Type, b.Name, b.OwnerKind, b.OwnerUID, scope)
	if j.waits {
		return waiting{j}, nil
	}
	return j, nil
}

// scope is equal for policies that find the same of a token: of one configuration, and with the same of what that only names.
func (j *jwtAuth) scope(cfg *policyv1.JwtAuth) (string, error) {
	text, err := (proto.MarshalOptions{Deterministic: true}).Marshal(cfg)
	if err != nil {
		return "", errors.New("its config cannot be written")
	}
	for _, m := range cfg.GetIssuers() {
		text = fmt.Appendf(text, "\x00%x", sha256.Sum256([]byte(j.issuers[m.GetIssuer()].authorities)))
		for _, k := range j.issuers[m.GetIssuer()].keys {
			print, _ := k.Thumbprint()
			text = fmt.Appendf(text, "\x00%s %q", print, m.GetIssuer())
		}
	}
	return string(text), nil
}

// sharedUses is where gateways remember together what was used; nil: each for itself.
func sharedUses(cfg *policyv1.JwtAuth, group policy.Group) (*hostsvc.SharedUses, error) {
	if cfg.GetReplayStore() == "" {
		return nil, nil //nolint:nilnil // as the tables mean it
	}
	strict, err := policy.Strict(cfg.GetOnStoreError())
	if err != nil {
		return nil, err
	}
	store, err := group.Store(cfg.GetReplayStore())
	if err != nil {
		return nil, err
	}
	return store.Uses(strict), nil
}

// placesOf says where tokens are looked for.
func placesOf(cfg *policyv1.JwtAuth) *presented.Places {
	c := presented.Config{
		Header: cfg.GetHeader(), Query: cfg.GetQuery(), Cookie: cfg.GetCookie(), Body: cfg.GetBody(),
		Schemes: []string{"Bearer"}, Keep: cfg.HideCredentials != nil && !cfg.GetHideCredentials(),
	}
	if cfg.GetDpop() != policyv1.JwtProof_JWT_PROOF_OFF {
		c.Schemes = append(c.Schemes, proofField)
	}
	if len(c.Header)+len(c.Query)+len(c.Cookie)+len(c.Body) == 0 {
		c.Header = []string{defaultHeader}
	}
	return presented.New(c)
}

func rulesOf(cfg *policyv1.JwtAuth) (token.Rules, error) {
	r := token.Rules{
		Audiences: cfg.GetAudiences(), Subjects: cfg.GetSubjects(), Leeway: cfg.GetLeeway().AsDuration(),
		Expires: cfg.RequireExpiry == nil || cfg.GetRequireExpiry(), MaxLifetime: cfg.GetMaxLifetime().AsDuration(), ID: cfg.GetOneTime(),
	}
	switch cfg.GetProfile() {
	case policyv1.JwtProfile_JWT_PROFILE_UNSPECIFIED, policyv1.JwtProfile_JWT_PROFILE_ANY:
	case policyv1.JwtProfile_JWT_PROFILE_ACCESS_TOKEN:
		r.AccessToken = true
	default:
		return r, errors.New("profile is not known")
	}
	for _, c := range cfg.GetClaims() {
		rule := token.ClaimRule{Name: c.GetName(), Values: c.GetValues()}
		switch c.GetMatch() {
		case policyv1.JwtMatch_JWT_MATCH_UNSPECIFIED, policyv1.JwtMatch_JWT_MATCH_REQUIRED:
			rule.Match = token.Present
		case policyv1.JwtMatch_JWT_MATCH_EQUALS:
			rule.Match = token.Equals
		case policyv1.JwtMatch_JWT_MATCH_CONTAINS:
			rule.Match = token.Contains
		case policyv1.JwtMatch_JWT_MATCH_CONTAINS_ALL:
			rule.Match = token.ContainsAll
		case policyv1.JwtMatch_JWT_MATCH_ABSENT:
			rule.Match = token.Absent
		default:
			return r, errors.New("match of a claim is not known")
		}
		if needs := rule.Match != token.Present && rule.Match != token.Absent; needs != (len(rule.Values) > 0) {
			return r, errors.New("values of a claim go with equals, contains and contains-all")
		}
		r.Claims = append(r.Claims, rule)
	}
	return r, nil
}

// Request implements policy.Policy.
func (j *jwtAuth) Request(x *exchange.Exchange) policy.Verdict {
	f := j.places.Find(x)
	switch {
	case f.Outcome == presented.Unread:
		return policy.Stop // the reason is recorded
	case f.Outcome == presented.Several:
		return refuse(x, j.refusals.several)
	case f.Outcome == presented.None:
		return refuse(x, j.refusals.missing)
	case x.Directory == nil:
		return refuse(x, j.refusals.unavailable)
	case len(f.Value) > token.MaxBytes:
		return refuse(x, j.refusals.of(token.Malformed))
	}
	v, refusal := j.known(x, f.Value)
	if refusal == nil && (v.bound != nil || f.Scheme == proofField) {
		refusal = j.proved(x, v.bound, f.Value, f.Scheme)
	}
	if refusal == nil && j.once != nil {
		refusal = j.single(x, v)
	}
	if refusal != nil {
		return refuse(x, refusal)
	}
	x.Principal = v.principal
	return policy.Next
}

// known returns what came of verifying the token, which is done if that is not remembered or has changed.
func (j *jwtAuth) known(x *exchange.Exchange, raw []byte) (*verified, *exchange.Refusal) {
	key := j.cache.Key(raw)
	v, _ := j.cache.Get(&key, x.Timings.Received).(*verified)
	if v != nil && v.epoch == j.cache.Epoch(x.Directory) && v.keysHold(x.Timings.Received) {
		return v, nil
	}
	v, refusal := j.verify(x, raw, v)
	if refusal != nil {
		j.cache.Drop(&key)
		return nil, refusal
	}
	j.cache.Put(&key, v, v.until(x.Timings.Received), len(raw))
	return v, nil
}

func refuse(x *exchange.Exchange, r *exchange.Refusal) policy.Verdict {
	x.Refuse(r)
	return policy.Stop
}

// Hide implements policy.Hider.
func (j *jwtAuth) Hide(x *exchange.Exchange) {
	j.places.Hide(x)
	if !j.keep {
		x.Request.Header.Del(proofField)
	}
}

// CredentialFields implements policy.Bearer.
func (j *jwtAuth) CredentialFields() []string {
	return append(slices.Clip(j.places.Fields()), proofField)
}

// Invalid implements policy.Uniform.
func (j *jwtAuth) Invalid() *exchange.Refusal { return j.refusals.invalid }

// Challenge implements policy.Challenger.
func (j *jwtAuth) Challenge() exchange.Header { return j.refusals.challenge }

// refusals are the answers. What is wrong with a token is for the log: a caller who may try would learn what is known here.
type refusals struct {
	challenge                              exchange.Header
	missing, several, invalid, unavailable *exchange.Refusal
	keys, later                            *exchange.Refusal
	proof, full, storeless                 *exchange.Refusal
	realm                                  string
	faults                                 map[token.Fault]*exchange.Refusal
}

func newRefusals(realm string) refusals {
	challenge := `Bearer realm="` + realm + `"`
	wrong := exchange.Field("WWW-Authenticate", challenge+`, error="invalid_token"`)
	r := refusals{
		realm:       realm,
		challenge:   exchange.Field("WWW-Authenticate", challenge),
		missing:     exchange.NewRefusal(401, "unauthenticated", "This route needs a bearer token.").Absent(),
		several:     exchange.NewRefusal(401, "unauthenticated", "The request presents more than one token."),
		invalid:     exchange.NewRefusal(401, "unauthenticated", "The token is not valid.", wrong),
		unavailable: exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.", exchange.Field("Retry-After", "5")),
		faults:      map[token.Fault]*exchange.Refusal{},
	}
	r.keys = exchange.NewRefusal(503, "unavailable", "The keys of the token's issuer cannot be had now.", exchange.Field("Retry-After", "5")).Because("token_keys_unavailable")
	r.full, r.storeless = r.unavailable.Because("token_uses_full"), r.unavailable.Because("replay_store_unavailable")
	again := strconv.Itoa(int(hostsvc.KeyAgain.Seconds()))
	r.later = exchange.NewRefusal(503, "unavailable", "Whether the token's key has been added cannot be looked up now.", exchange.Field("Retry-After", again)).Because("token_key_not_looked_up")
	r.proof = exchange.NewRefusal(401, "unauthenticated", "The proof that the token is the caller's is not valid.",
		exchange.Field("WWW-Authenticate", `DPoP realm="`+realm+`", error="invalid_dpop_proof"`)).Because("token_proof")
	for _, f := range slices.Concat(token.Faults(), []token.Fault{unknownConsumer, ambiguous}) {
		r.faults[f] = r.invalid.Because(string(f))
	}
	return r
}

func (r *refusals) of(f token.Fault) *exchange.Refusal {
	if known := r.faults[f]; known != nil {
		return known
	}
	return r.invalid
}
