// Package cors enforces the cors policy: it answers preflight requests and marks responses for browsers as the Fetch
// standard says. It protects users of browsers, not the upstream: it never refuses, it withholds permission.
package cors

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

const (
	defaultMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	defaultMaxAge  = 5 * time.Minute
	fieldPrefix    = "access-control-"
)

// What Request leaves in the slot's N for Response.
const (
	originForbidden = iota
	originAllowed
	preflightAllowed
)

var (
	fieldAllowOrigin = []byte("Access-Control-Allow-Origin")
	anyOrigin        = []byte("*")
)

type cors struct {
	origins     *origins
	credentials bool
	// preflight holds the fields of the answer to an allowed preflight, actual those of any other allowed response;
	// the origin comes on top.
	preflight, actual exchange.Headers
	answer            *exchange.Refusal
	vary              exchange.Header
}

// Build makes the policy.
func Build(cfg *policyv1.Cors) (policy.Policy, error) {
	o, err := newOrigins(cfg.GetAllowOrigins())
	if err != nil {
		return nil, err
	}
	if o.any && cfg.GetAllowCredentials() {
		return nil, errors.New("allow_credentials needs named origins")
	}
	c := &cors{
		origins: o, credentials: cfg.GetAllowCredentials(),
		answer: exchange.NewAnswer(204), vary: exchange.Field("Vary", "Origin"),
	}
	c.prepare(cfg)
	return c, nil
}

func (c *cors) prepare(cfg *policyv1.Cors) {
	methods := strings.Join(cfg.GetAllowMethods(), ", ")
	if methods == "" {
		methods = defaultMethods
	}
	maxAge := defaultMaxAge
	if cfg.MaxAge != nil {
		maxAge = cfg.GetMaxAge().AsDuration()
	}
	if c.credentials {
		f := exchange.Field("Access-Control-Allow-Credentials", "true")
		c.preflight.Add(f)
		c.actual.Add(f)
	}
	c.preflight.Add(exchange.Field("Access-Control-Allow-Methods", methods))
	if h := cfg.GetAllowHeaders(); len(h) > 0 {
		c.preflight.Add(exchange.Field("Access-Control-Allow-Headers", strings.Join(h, ", ")))
	}
	c.preflight.Add(exchange.Field("Access-Control-Max-Age", strconv.FormatInt(int64(maxAge/time.Second), 10)))
	if h := cfg.GetExposeHeaders(); len(h) > 0 {
		c.actual.Add(exchange.Field("Access-Control-Expose-Headers", strings.Join(h, ", ")))
	}
}

// AnswersPreflight implements policy.Preflighter.
func (c *cors) AnswersPreflight() {}

// Request implements policy.Policy.
func (c *cors) Request(x *exchange.Exchange) policy.Verdict {
	h, slot := x.Request.Header, x.Slot()
	i := h.Index("Origin", 0)
	if i < 0 {
		return policy.Next
	}
	preflight := string(x.Request.Method) == "OPTIONS" && h.Has("Access-Control-Request-Method")
	if h.Index("Origin", i+1) < 0 && c.origins.allow(h[i].Value) {
		slot.N, slot.Bytes = originAllowed, h[i].Value
		if preflight {
			slot.N = preflightAllowed
		}
	}
	if !preflight {
		return policy.Next
	}
	x.Refuse(c.answer)
	return policy.Stop
}

// Response implements policy.ResponsePolicy. What the upstream says about origins is replaced: it cannot know what the
// gateway allows, and browsers refuse a field that comes twice.
func (c *cors) Response(x *exchange.Exchange) {
	h, slot := &x.Response.Header, x.Slot()
	removeFields(h)
	if !c.origins.any {
		c.varyByOrigin(h)
	}
	if slot.N == originForbidden {
		return
	}
	origin := slot.Bytes
	if c.origins.any {
		origin = anyOrigin
	}
	h.Add(exchange.Header{Name: fieldAllowOrigin, Value: origin})
	fields := c.actual
	if slot.N == preflightAllowed {
		fields = c.preflight
	}
	*h = append(*h, fields...)
}

func removeFields(h *exchange.Headers) {
	for i := range slices.Backward(*h) {
		if name := (*h)[i].Name; len(name) > len(fieldPrefix) && exchange.EqualFold(name[:len(fieldPrefix)], fieldPrefix) {
			h.DelAt(i)
		}
	}
}

// varyByOrigin tells caches that the response depends on the origin, also when there was none.
func (c *cors) varyByOrigin(h *exchange.Headers) {
	for i := h.Index("Vary", 0); i >= 0; i = h.Index("Vary", i+1) {
		if exchange.HasToken((*h)[i].Value, "Origin") || exchange.HasToken((*h)[i].Value, "*") {
			return
		}
	}
	h.Add(c.vary)
}
