// Package hmacauth enforces the hmac-auth policy: it identifies a consumer by a signature over the request. Which bytes were
// signed package httpsig says; this one decides what a signature has to be like, whose key it is, and whether it counts again.
//
// What can be told without a key is told in words. Whatever depends on one is answered alike: no such key, a wrong signature, a
// credential that is not valid now.
package hmacauth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/httpsig"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

const (
	credentialType = "hmac-auth"
	defaultRealm   = "keyward"
	defaultSkew    = 300 * time.Second
	defaultMaxBody = 8 << 20
	// maxKeyID is the longest that admission accepts. Longer ones are nobody's.
	maxKeyID = 256
)

type hmacAuth struct {
	rfc9421, cavage bool
	algorithms      [32]bool // by httpsig.Algorithm
	skew, age       int64    // seconds
	needs           needs
	tag             string
	nonce           bool
	replay          policyv1.HmacAuthReplay
	replays         *hostsvc.Replays
	compareBody     bool
	maxBody         int64
	hide            bool
	challenge       exchange.Header
	uncovered       *exchange.Refusal
	strangers       []*httpsig.Key
	scratch         sync.Pool
}

// needs is what a signature has to cover.
type needs struct {
	parts  httpsig.Parts
	fields []string
	digest bool // of a body
}

// The refusals, one per reason.
var (
	refuseMissing     = exchange.NewRefusal(401, "unauthenticated", "This route needs a signature over the request.").Absent()
	refuseInvalid     = exchange.NewRefusal(401, "unauthenticated", "The signature is not valid.")
	refuseSeveral     = exchange.NewRefusal(401, "unauthenticated", "The request presents signatures in more than one form.")
	refuseMalformed   = exchange.NewRefusal(401, "signature_malformed", "The signature cannot be read.")
	refuseUnsupported = exchange.NewRefusal(401, "signature_unsupported", "The signature covers something that cannot be verified here.")
	refuseAbsent      = exchange.NewRefusal(401, "signature_malformed", "The signature covers something that the request does not have.")
	refuseStale       = exchange.NewRefusal(401, "signature_stale", "The time of the signature is too far from now.")
	refuseExpired     = exchange.NewRefusal(401, "signature_expired", "The signature has expired.")
	refuseNonce       = exchange.NewRefusal(401, "signature_incomplete", "The signature needs a nonce.")
	refuseDigest      = exchange.NewRefusal(401, "digest_mismatch", "The digest that is signed is not that of the body.")
	refuseNoDigest    = exchange.NewRefusal(401, "digest_mismatch", "The digest that is signed is by no algorithm that is taken: sha-256 and sha-512 are.")
	refuseReplayed    = exchange.NewRefusal(401, "signature_replayed", "The signature was used before.")
	refuseUnavailable = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.", exchange.Field("Retry-After", "5"))
	refuseStoreless   = exchange.NewRefusal(503, "unavailable", "It cannot be found out now whether the signature was used.", exchange.Field("Retry-After", "5")).Because("replay_store_unavailable")
	refuseFull        = exchange.NewRefusal(503, "unavailable", "It cannot be remembered now that the signature was used.", exchange.Field("Retry-After", "5"))
)

// Build makes the policy.
func Build(cfg *policyv1.HmacAuth, d policy.Deps) (policy.Policy, error) {
	h := &hmacAuth{
		skew: seconds(cfg.GetClockSkew().AsDuration(), defaultSkew), tag: cfg.GetTag(), nonce: cfg.GetRequireNonce(), replay: cfg.GetReplay(),
		compareBody: cfg.ValidateBody == nil || cfg.GetValidateBody(), maxBody: defaultMaxBody,
		hide: cfg.HideCredentials == nil || cfg.GetHideCredentials(),
	}
	h.age = seconds(cfg.GetMaxAge().AsDuration(), time.Duration(h.skew)*time.Second)
	if cfg.MaxBody != nil {
		h.maxBody = int64(min(cfg.GetMaxBody(), 1<<30))
	}
	if h.replay == policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_UNSPECIFIED {
		h.replay = policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_NONCES
	}
	h.strangers = d.Host.Strangers
	if err := h.remember(cfg, d); err != nil {
		return nil, err
	}
	h.scratch.New = func() any { return new(scratch) }
	if err := h.accept(cfg.GetFormats(), cfg.GetAlgorithms()); err != nil {
		return nil, err
	}
	if err := h.require(cfg.GetRequired()); err != nil {
		return nil, err
	}
	if h.nonce && h.replay > policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_SIGNATURES {
		return nil, errors.New("a nonce is asked for and not remembered")
	}
	realm := cfg.GetRealm()
	if realm == "" {
		realm = defaultRealm
	}
	if strings.ContainsAny(realm, "\"\\\r\n") {
		return nil, errors.New("realm has characters that a quoted string cannot carry")
	}
	h.challenge = exchange.Field("WWW-Authenticate", `Signature realm="`+realm+`"`)
	if cfg.GetReplayStore() != "" {
		return sharing{h}, nil
	}
	return h, nil
}

// sharing is the policy that asks a store what was taken elsewhere, for which a request may wait.
type sharing struct{ *hmacAuth }

// Waits implements policy.Waiter.
func (sharing) Waits() {}

// remember says where it is remembered what was taken.
func (h *hmacAuth) remember(cfg *policyv1.HmacAuth, d policy.Deps) error {
	b := d.Binding
	h.replays = d.Host.Replays.Bind(b.Type, b.Name, b.OwnerKind, b.OwnerUID)
	if cfg.GetReplayStore() == "" {
		return nil
	}
	strict, err := policy.Strict(cfg.GetOnStoreError())
	if err != nil {
		return err
	}
	store, err := d.Group.Store(cfg.GetReplayStore())
	if err != nil {
		return err
	}
	h.replays = h.replays.Through(store.Uses(strict))
	return nil
}

func seconds(d, otherwise time.Duration) int64 {
	if d <= 0 {
		d = otherwise
	}
	return int64(d / time.Second)
}

// accept notes which signatures are taken.
func (h *hmacAuth) accept(formats, algorithms []string) error {
	if len(formats) == 0 {
		formats = []string{"rfc9421", "cavage"}
	}
	for _, f := range formats {
		switch f {
		case "rfc9421":
			h.rfc9421 = true
		case "cavage":
			h.cavage = true
		default:
			return fmt.Errorf("format %q is not known", f)
		}
	}
	for _, name := range algorithms {
		a := httpsig.AlgorithmOf(name)
		if a == 0 {
			return fmt.Errorf("algorithm %q is not known", name)
		}
		h.algorithms[a] = true
	}
	if len(algorithms) == 0 {
		h.algorithms[httpsig.HMACSHA256], h.algorithms[httpsig.HMACSHA512] = true, true
	}
	return nil
}

// require notes what has to be covered.
func (h *hmacAuth) require(names []string) error {
	if len(names) == 0 {
		names = []string{"@method", "@authority", "@path", "@query", "content-digest"}
	}
	said := make([]string, len(names))
	for i, name := range names {
		said[i] = name
		parts := httpsig.PartsOf(name)
		switch {
		case parts != 0:
			h.needs.parts |= parts
		case strings.HasPrefix(name, "@"):
			return fmt.Errorf("component %q is not known", name)
		case name == "content-digest" || name == "digest":
			h.needs.digest, said[i] = true, name+" if there is a body"
		case name == "host":
			h.needs.parts |= httpsig.PartAuthority
		default:
			h.needs.fields = append(h.needs.fields, name)
		}
	}
	h.uncovered = exchange.NewRefusal(401, "signature_incomplete",
		"The signature does not cover all that it has to: its time, "+strings.Join(said, ", ")+".")
	return nil
}

// message is the request as it was received.
func message(x *exchange.Exchange) httpsig.Message {
	q := &x.Request
	return httpsig.Message{Method: q.Method, Target: q.RawTarget, Authority: q.Authority, Scheme: q.Scheme, Proto: q.Proto, Header: q.Header}
}

// scratch is what is too large for the stack of a request. It is pooled, without anything of a request.
type scratch struct {
	message           httpsig.Message
	inputs            httpsig.Inputs
	signature, chosen httpsig.Signature
	credential        *exchange.Credential
	hash              [32]byte
}

// Request implements policy.Policy.
func (h *hmacAuth) Request(x *exchange.Exchange) policy.Verdict {
	w, ok := h.scratch.Get().(*scratch)
	if !ok {
		return policy.Stop
	}
	w.message = message(x)
	r := h.check(x, w)
	if r == nil {
		x.Principal = w.credential.Principal
	}
	*w = scratch{}
	h.scratch.Put(w)
	if r == refuseOther {
		return policy.Stop // whoever knows why has said so
	}
	if r != nil {
		x.Refuse(r)
		return policy.Stop
	}
	return policy.Next
}

// refuseOther stands for a refusal that is recorded already.
var refuseOther = exchange.NewRefusal(500, "internal", "The gateway could not process the request.")

// check returns nil with w.credential set if a signature counts.
func (h *hmacAuth) check(x *exchange.Exchange, w *scratch) *exchange.Refusal {
	if r := h.find(x, w); r != nil {
		return r
	}
	s := &w.chosen
	until, r := h.timely(&w.message, s, x.Timings.Received.Unix())
	if r == nil {
		r = h.complete(x, s)
	}
	if r != nil {
		return r
	}
	base, err := s.Base(&w.message, x)
	if err != nil {
		return refusalOf(err)
	}
	if x.Directory == nil {
		return refuseUnavailable
	}
	if r := h.verify(x, w, base); r != nil {
		return r
	}
	if r := h.body(x, w); r != nil {
		return r
	}
	return h.once(x, w, until)
}

func refusalOf(err error) *exchange.Refusal {
	switch {
	case errors.Is(err, httpsig.ErrUnsupported):
		return refuseUnsupported
	case errors.Is(err, httpsig.ErrAbsent):
		return refuseAbsent
	}
	return refuseMalformed
}

// complete says what a signature lacks.
func (h *hmacAuth) complete(x *exchange.Exchange, s *httpsig.Signature) *exchange.Refusal {
	switch {
	case s.Covers("x-request-id"), s.Covers("traceparent"), s.Covers("tracestate"):
		return refuseUnsupported // they are the gateway's own already
	case s.Parts&h.needs.parts != h.needs.parts:
		return h.uncovered
	case h.needs.digest && x.Request.ContentLength != 0 && !s.Covers("content-digest") && !s.Covers("digest"):
		return h.uncovered
	case slices.ContainsFunc(h.needs.fields, func(f string) bool { return !s.Covers(f) }):
		return h.uncovered
	case h.nonce && len(s.Nonce) == 0:
		return refuseNonce
	}
	return nil
}

// timely says whether the time of a signature is about now, and until when it is.
func (h *hmacAuth) timely(m *httpsig.Message, s *httpsig.Signature, now int64) (until int64, _ *exchange.Refusal) {
	at := s.Created
	for _, field := range [...]string{"date", "x-date"} {
		if at.Set || !s.Covers(field) {
			continue
		}
		i := m.Header.Index(field, 0)
		if i < 0 {
			return 0, refuseAbsent
		}
		var ok bool
		if at, ok = httpsig.ParseDate(m.Header[i].Value); !ok || m.Header.Index(field, i+1) >= 0 {
			return 0, refuseMalformed
		}
	}
	switch {
	case !at.Set:
		return 0, h.uncovered
	case at.Unix > now+h.skew || at.Unix < now-h.age:
		return 0, refuseStale
	case s.Expires.Set && s.Expires.Unix < now:
		return 0, refuseExpired
	}
	until = at.Unix + h.age
	if s.Expires.Set {
		until = min(until, s.Expires.Unix)
	}
	return until, nil
}

// body compares the digests that are covered with the body. A body that is not there is compared too: somebody may have taken
// it away.
func (h *hmacAuth) body(x *exchange.Exchange, w *scratch) *exchange.Refusal {
	s := &w.chosen
	current, legacy := s.Covers("content-digest"), s.Covers("digest")
	if !h.compareBody || !current && !legacy {
		return nil
	}
	body, ok := x.Body(h.maxBody)
	if !ok {
		return refuseOther
	}
	var err error
	if current {
		err = httpsig.ContentDigest(&w.message, body, x)
	}
	if err == nil && legacy {
		err = httpsig.LegacyDigest(&w.message, body, x)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, httpsig.ErrDigest):
		return refuseDigest
	case errors.Is(err, httpsig.ErrAbsent):
		return refuseNoDigest
	}
	return refuseMalformed
}

// once refuses what was used before. It comes last, so that what is refused is not used up.
func (h *hmacAuth) once(x *exchange.Exchange, w *scratch, until int64) *exchange.Refusal {
	name := w.chosen.Nonce
	if len(name) == 0 && h.replay == policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_SIGNATURES {
		name = w.chosen.Value
	}
	if len(name) == 0 || h.replay == policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_OFF {
		return nil
	}
	// A second more, for the part of it that Unix times leave out.
	switch h.replays.Take(w.credential.Principal.CredentialUID, name, x.Timings.Received, time.Unix(until+1, 0)) {
	case hostsvc.ReplayFirst:
		return nil
	case hostsvc.ReplayAgain:
		return refuseReplayed
	case hostsvc.ReplayOutage:
		return refuseStoreless
	}
	return refuseFull
}

// CredentialFields implements policy.Bearer.
func (h *hmacAuth) CredentialFields() []string {
	fields := []string{"Signature"}
	if h.cavage {
		fields = append(fields, "Authorization")
	}
	return fields
}

// Invalid implements policy.Uniform.
func (h *hmacAuth) Invalid() *exchange.Refusal { return refuseInvalid }

// Challenge implements policy.Challenger.
func (h *hmacAuth) Challenge() exchange.Header { return h.challenge }
